"""What `python -m tools.predict` prints, and which model it uses."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.pipeline.errors import ModelError
from tests.support import sections
from tests.support.project import Project, copy_project
from tests.tools.predict import trained_models
from tools.predict import __main__ as command
from tools.predict import loaded_model, predictions
from tools.predict.predictions import Prediction

Printed = tuple[int, str, str]  # status, output, errors


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that takes everything for a 3, and the first two test images."""
    trained_models.lay_out(tmp_path, favourite=3)
    images, _ = trained_models.mnist("t10k", 10_000)
    (tmp_path / "digits").mkdir()
    Image.fromarray(images[0, :, :, 0]).save(tmp_path / "digits/b.png")
    Image.fromarray(255 - images[1, :, :, 0]).save(tmp_path / "digits/a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., Printed]:
    def call(*images: str, form: str = "table") -> Printed:
        status = 0
        try:
            command.main(list(images), None, form)
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return call


# A logit of 2 against nine of 0: e² / (e² + 9), and 1 / (e² + 9) for the others.
FAVOURITE, OTHER = 0.450853, 0.061016


def test_json_has_every_class_of_every_image(folder: Path, printed: Callable[..., Printed]) -> None:
    status, text, errors = printed("digits/b.png", "digits/a.png", form="json")
    assert (status, errors) == (0, "")
    shares = {str(digit): FAVOURITE if digit == 3 else OTHER for digit in range(10)}
    common = {"label": "3", "probability": FAVOURITE, "probabilities": shares}
    assert json.loads(text) == [
        {"file": "digits/b.png", **common, "inverted": False},
        {"file": "digits/a.png", **common, "inverted": True},
    ]


def test_csv_has_a_header_and_a_row_an_image(folder: Path, printed: Callable[..., Printed]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed("digits", form="csv")[1])))
    assert [row["file"] for row in rows] == ["digits/a.png", "digits/b.png"]
    assert [row["inverted"] for row in rows] == ["true", "false"]
    assert rows[0]["label"] == "3"
    assert float(rows[0]["3"]) == float(rows[0]["probability"]) == FAVOURITE
    assert list(rows[0])[4:] == [str(digit) for digit in range(10)]


def test_the_table_has_the_three_most_probable_classes(
    folder: Path, printed: Callable[..., Printed]
) -> None:
    assert printed("digits") == (
        0,
        "logistic_regression, trained on mnist\n"
        "\n"
        "image         label      second     third      inverted\n"
        "digits/a.png  3  45.1 %  0   6.1 %  1   6.1 %  yes\n"
        "digits/b.png  3  45.1 %  0   6.1 %  1   6.1 %  no\n",
        "",
    )


@pytest.mark.parametrize("names", [["0"], ["aquarium_fish", "x" * 30], ["Ankle boot"] * 3])
def test_the_table_fits_a_terminal(names: list[str]) -> None:
    shares = {f"{name}{number}": 1 / 9 for number, name in enumerate(names * 3)}
    path = "a/very/long/path/to/an/image/that/is/longer/than/the/line/of/a/terminal/seven.png"
    table = predictions.as_table(
        [Prediction(path, shares, True), Prediction("7.png", shares, False)]
    )
    assert max(map(len, table.splitlines())) <= 80
    assert "seven.png  " in table


def test_what_is_no_image_is_named_and_the_others_continue(
    folder: Path, printed: Callable[..., Printed]
) -> None:
    Path("digits/notes\x1b[2J.txt").write_text("no image")
    Path("digits/.hidden").write_text("no image either")
    Image.new("L", (40, 40), 255).save("blank.png")
    status, text, errors = printed("missing.png", "digits", "blank.png", form="json")
    assert status == 1
    assert [row["file"] for row in json.loads(text)] == ["digits/a.png", "digits/b.png"]
    messages = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert messages == [
        "error: missing.png: No such file or directory",
        "error: digits/notes?[2J.txt is not an image",
        "error: blank.png has nothing drawn on it",
    ]


def test_a_folder_without_files_is_named(folder: Path, printed: Callable[..., Printed]) -> None:
    Path("empty/.git").mkdir(parents=True)
    Path("empty/.git/config").touch()
    os.mkfifo("empty/pipe")
    status, text, errors = printed("empty", "digits/a.png", form="json")
    assert (status, len(json.loads(text))) == (1, 1)
    assert errors.startswith("error: empty has no files in it\n")


def test_a_closed_standard_input_is_named(
    folder: Path, printed: Callable[..., Printed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    status, text, errors = printed("-", "digits/a.png", form="json")
    assert (status, len(json.loads(text))) == (1, 1)
    assert errors.startswith("error: - is closed\n")


def test_the_images_of_the_test_set_get_what_the_pipeline_predicts() -> None:
    from core.training import evaluation, tensors

    images, _ = trained_models.mnist("t10k", 10_000)
    model = trained_models.of_digits()
    some = np.arange(200)
    expected = evaluation.predict(model.network, tensors.of(images), tensors.of(some)).numpy()
    found = np.array([model.probabilities(images[number]) for number in some])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_params_edited_since_the_training_are_reported(
    folder: Path, printed: Callable[..., Printed]
) -> None:
    assert loaded_model.edits() == []
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("name: logistic_regression", "name: cnn"))
    status, text, errors = printed("digits/a.png", form="json")
    assert (status, json.loads(text)[0]["label"]) == (0, "3")
    assert "model.name: logistic_regression → cnn. dvc repro trains that model" in errors


@pytest.mark.parametrize("text", ["", "numerics\n", "dataset: mnist\nmodel: {name: cnn}\n"])
def test_params_that_lack_sections_are_an_edit_too(
    folder: Path, printed: Callable[..., Printed], text: str
) -> None:
    Path("params.yaml").write_text(text)
    status, predicted, errors = printed("digits/a.png", form="json")
    assert (status, json.loads(predicted)[0]["label"]) == (0, "3")
    assert "numerics: portable → None" in errors


def spoil_model() -> None:
    Path("models/model.pt").write_bytes(b"another")


def change_lock(change: Callable[[Any], Any]) -> Callable[[], None]:
    def changed() -> None:
        lock = json.loads(Path("dvc.lock").read_text())
        change(lock["stages"])
        Path("dvc.lock").write_text(json.dumps(lock))

    return changed


MLP = {"model.name": "mlp", "model.mlp": {"hidden_sizes": [3], "dropout": 0.0}}


def whole_section(stages: Any) -> None:
    """List the section `model` as one parameter, with all architectures that had any."""
    values = stages["train"]["params"]["params.yaml"]
    for key in [key for key in values if key.startswith("model.")]:
        del values[key]
    values["model"] = {
        "name": "logistic_regression",
        "standardize": False,
        **{name: sections.MODEL.model_dump()[name] for name in ("mlp", "cnn")},
    }


def test_a_dvc_lock_that_lists_the_whole_section_of_the_model_is_read_too(folder: Path) -> None:
    kept = loaded_model.load(None)
    change_lock(whole_section)()

    again = loaded_model.load(None)

    assert (again.name, loaded_model.edits()) == (kept.name, [])
    state = again.network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in kept.network.state_dict().items())


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (Path("models/model.pt").unlink, r"models/model.pt is missing[\s\S]*dvc repro trains it"),
        (Path("dvc.lock").unlink, "there is no dvc.lock in this folder"),
        (spoil_model, "models/model.pt is not the model that dvc.lock describes"),
        (lambda: Path("dvc.lock").write_text("["), "dvc.lock does not describe a model"),
        (change_lock(lambda stages: stages.pop("train")), "found:    no train"),
        (
            change_lock(lambda s: s["train"]["params"]["params.yaml"].pop("model.standardize")),
            r"model.standardize: Field required",
        ),
        (
            change_lock(
                lambda s: s["download"]["params"]["params.yaml"]["dataset"].update(name="svhn")
            ),
            "the data set svhn is unknown",
        ),
        (
            change_lock(lambda s: s["train"]["params"]["params.yaml"].update(MLP)),
            "is not a mlp for these images",
        ),
        (
            change_lock(
                lambda s: s["train"]["params"]["params.yaml"].update(
                    MLP | {"model.mlp": {"hidden_sizes": [3]}}
                )
            ),
            r"model.mlp.dropout: Field required",
        ),
    ],
)
def test_a_model_that_dvc_lock_does_not_describe_is_refused(
    folder: Path, spoil: Callable[[], Any], problem: str
) -> None:
    spoil()
    with pytest.raises(ModelError, match=problem):
        loaded_model.load(None)


@pytest.mark.slow
def test_the_model_of_any_revision_predicts_if_its_bytes_are_somewhere(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    for number, tag in ((3, "threes"), (8, "eights"), (5, "fives")):
        md5 = trained_models.lay_out(project.folder, favourite=number)
        project.commit(tag)
        project.must("git", "tag", tag)
        if tag != "fives":  # which are in no cache
            kept = project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes((project.folder / "models/model.pt").read_bytes())
    images, _ = trained_models.mnist("t10k", 10_000)
    Image.fromarray(images[0, :, :, 0]).save(project.folder / "seven.png")

    assert labels(predicted(project, "threes")) == ["3"]
    assert labels(predicted(project, "eights")) == ["8"]
    lost = predicted(project, "fives")
    assert lost.returncode == 1
    assert "error: the model of fives is neither in DVC's cache nor in a remote" in lost.stderr
    unknown = predicted(project, "sevens")
    assert unknown.returncode == 1
    assert "error: there is no revision or experiment sevens" in unknown.stderr


def predicted(project: Project, revision: str) -> subprocess.CompletedProcess[str]:
    """Run the command, which takes any image also from standard input."""
    call = (sys.executable, "-m", "tools.predict", "--json", "--rev", revision, "-")
    with (project.folder / "seven.png").open("rb") as image:
        return subprocess.run(
            call, cwd=project.folder, stdin=image, capture_output=True, text=True, check=False
        )


def labels(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [row["label"] for row in json.loads(done.stdout)]
