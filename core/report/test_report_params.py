"""The section `test_report` of params.yaml."""

from pydantic import Field

from core.pipeline.params import Section


class TestReportParams(Section):
    """What the report on the test set shows."""

    most_wrong: int = Field(ge=1, le=100, description="an integer from 1 to 100")
