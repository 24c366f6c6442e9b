"""The section `dataset` of params.yaml."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from core.pipeline.params import Params, Section, unknown
from core.pipeline.strict_yaml import Location

# The keys of core.data.datasets.DATASETS.
DatasetName = Literal["mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100"]


class DatasetParams(Section):
    """Which images, and where they may come from."""

    name: DatasetName
    mirrors: dict[
        str,
        Annotated[
            list[Annotated[str, Field(min_length=1, description="a folder or an http(s) address")]],
            Field(min_length=1, description="a list with at least one folder or address"),
        ],
    ] = Field(description="for each data set a list of folders and addresses")

    def disagreements(self, others: Params) -> dict[Location, str]:
        """Find a list of sources for an unknown data set, or none for the one that is chosen."""
        known = get_args(DatasetName)
        strangers: dict[Location, str] = {
            ("mirrors", name): unknown(name, known) for name in self.mirrors if name not in known
        }
        if strangers or self.name in self.mirrors:
            return strangers
        return {
            ("mirrors",): f"expected a list for the data set {self.name}, "
            f"found lists for {', '.join(self.mirrors) or 'none'}"
        }
