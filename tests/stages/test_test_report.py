"""The stage on a small data set, with every number worked out by hand.

An image of class k has its pixel k lit, or the pixel of the class that it is
to be taken for. The weights give a fully lit pixel a logit of ln 6: of four
classes, that one has probability 6 / (6 + 3), the others 1 / 9 each.
"""

import base64
import csv
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from core.data import arrays
from core.pipeline.errors import DataError, ModelError
from core.statistics import intervals
from core.training import architectures, weights
from stages import test_report as stage
from tests.support import measured, parameters, sections

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = [
    "metrics/calibration.csv",
    "metrics/coverage.csv",
    "metrics/per_class.csv",
    "metrics/test.json",
    "metrics/test_predictions.csv",
    "reports/best_and_worst.png",
    "reports/least_certain.png",
    "reports/most_wrong.png",
    "reports/random_sample.png",
    "reports/test_report.html",
    "reports/weights.png",
]
NAMES = ["<b>bold</b> & 'quoted\"", "zwölf", "absent", "never seen"]
SHAPE = (8, 8, 1)
LIT = math.log(6)

# 40 images: label, prediction, count.
OUTCOME = [(0, 0, 20), (1, 1, 8), (1, 0, 2), (3, 0, 6), (3, 1, 4)]
MATRIX = [[20, 0, 0, 0], [2, 8, 0, 0], [0, 0, 0, 0], [6, 4, 0, 0]]
ACCURACY = 28 / 40


class Page(HTMLParser):
    """Collects a page's text and its tables by element id, its images and its addresses."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self._id: str | None = None
        self._table: list[list[str]] = []
        self._in_cell = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.add(tag)
        self.addresses += [attributes[key] or "" for key in ("src", "href") if key in attributes]
        self._id = attributes.get("id") or self._id
        if tag == "img":
            self.images.append(attributes)
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id") or "", [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False
        if tag in ("dd", "section"):
            self._id = None

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self._table[-1][-1] += data
        if self._id:
            self.text[self._id] = self.text.get(self._id, "") + data


def lay_out(folder: Path, outcome: list[tuple[int, int, int]]) -> None:
    """Put code, parameters, earlier results, a test set and a model into `folder`."""
    for part in ("core", "stages"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "params.yaml").write_text(parameters.text(), encoding="utf-8")
    measured.write(folder)
    seen = [seen for _, seen, count in outcome for _ in range(count)]
    labels = [label for label, _, count in outcome for _ in range(count)]
    images = np.zeros((len(labels), 64), dtype=np.uint8)
    images[np.arange(len(labels)), seen] = 255
    arrays.write(folder / "data/raw/test_images.npy", images.reshape(-1, *SHAPE))
    arrays.write(folder / "data/raw/test_labels.npy", np.array(labels, dtype=np.int64))
    # One of them is not trained on: a fully lit pixel 0, as 28 of the test images have.
    train_images = np.zeros((4, *SHAPE), dtype=np.uint8)
    train_images[3, 0, 0] = 255
    arrays.write(folder / "data/raw/train_images.npy", train_images)
    arrays.write(folder / "data/split/train_indices.npy", np.array([0, 2, 1]))
    (folder / "data/raw/classes.json").write_text(json.dumps(NAMES), encoding="utf-8")
    model = architectures.build(sections.model("logistic_regression"), SHAPE, len(NAMES))
    weight = torch.zeros(len(NAMES), 64)
    weight[range(len(NAMES)), range(len(NAMES))] = LIT
    with torch.no_grad():
        model.get_parameter("linear.weight").copy_(weight)
        model.get_parameter("linear.bias").zero_()
    weights.save(folder / "models/model.pt", model.state_dict())


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(command or ("-m", "stages.test_report"))],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def written(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in ("metrics", "reports")
        for path in sorted((folder / part).rglob("*"))
        if path.relative_to(folder).as_posix() not in measured.INPUTS
    }


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stage has run."""
    folder = tmp_path_factory.mktemp("reported")
    lay_out(folder, OUTCOME)
    finished = run(folder)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == (
        "test accuracy 0.7000 (95 % interval 0.5457 to 0.8193), loss 0.9430, 40 images\n"
        "balanced accuracy 0.6000, always <b>bold</b> & 'quoted\", the largest class: 0.5000\n"
        "report: reports/test_report.html\n"
    )
    return folder


@pytest.fixture(scope="module")
def page(reported: Path) -> Page:
    return Page((reported / "reports/test_report.html").read_text(encoding="utf-8"))


def table(folder: Path, name: str) -> list[list[str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_it_writes_its_eleven_files_and_no_others(reported: Path) -> None:
    assert sorted(written(reported)) == OUTPUTS


def test_loss_accuracy_and_interval_are_those_worked_out_by_hand(reported: Path) -> None:
    metrics = json.loads((reported / "metrics/test.json").read_text(encoding="utf-8"))
    assert list(metrics) == [
        *("loss", "accuracy", "accuracy_low", "accuracy_high", "images"),
        *("above_val", "above_val_low", "above_val_high", "ece", "brier"),
    ]
    loss = -(28 * math.log(6 / 9) + 12 * math.log(1 / 9)) / 40
    low, high = intervals.wilson(28, 40)
    assert metrics["loss"] == pytest.approx(loss, abs=2e-6)
    assert metrics["accuracy"] == ACCURACY
    assert metrics["accuracy_low"] == round(low, 6)
    assert metrics["accuracy_high"] == round(high, 6)
    assert metrics["images"] == 40


def test_difference_and_calibration_are_those_worked_out_by_hand(reported: Path) -> None:
    metrics = json.loads((reported / "metrics/test.json").read_text(encoding="utf-8"))
    above = intervals.newcombe(28, 40, 7, 10)
    assert metrics["above_val"] == 0
    assert metrics["above_val_low"] == round(above.low, 6)
    assert metrics["above_val_high"] == round(above.high, 6)
    assert metrics["ece"] == pytest.approx(28 / 40 - 6 / 9, abs=2e-6)
    # Three classes at 1/9, and the lit one at 2/3, of which one is the label.
    right = (1 / 3) ** 2 + 3 * (1 / 9) ** 2
    wrong = (2 / 3) ** 2 + (8 / 9) ** 2 + 2 * (1 / 9) ** 2
    assert metrics["brier"] == pytest.approx((28 * right + 12 * wrong) / 40, abs=2e-6)
    assert table(reported, "metrics/calibration.csv") == [
        ["low", "high", "images", "confidence", "accuracy"],
        ["0.666667", "0.733333", "40", "0.666667", "0.7"],
    ]
    coverage = table(reported, "metrics/coverage.csv")
    assert coverage[0] == ["handed_over", "images", "accuracy"]
    # All are equally certain, so the first go, and these are right: 20 of 28.
    assert coverage[1] == ["0.0", "40", "0.7"]
    assert coverage[-1] == ["0.5", "20", "0.4"]
    assert len(coverage) == 52


def test_each_image_has_its_row_of_predictions_in_order(reported: Path) -> None:
    rows = table(reported, "metrics/test_predictions.csv")
    expected = [[label, seen] for label, seen, count in OUTCOME for _ in range(count)]
    assert rows[0] == ["index", "label", "prediction", "probability"]
    assert rows[1:] == [
        [str(index), str(label), str(seen), "0.6667"]
        for index, (label, seen) in enumerate(expected)
    ]


def test_the_table_of_classes_holds_precision_recall_f1_and_support(reported: Path) -> None:
    assert table(reported, "metrics/per_class.csv") == [
        ["class", "precision", "recall", "f1", "support"],
        [NAMES[0], "0.714286", "1.0", "0.833333", "20"],  # 20/28, 20/20, 40/48
        [NAMES[1], "0.666667", "0.8", "0.727273", "10"],  # 8/12, 8/10, 16/22
        [NAMES[2], "0.0", "0.0", "0.0", "0"],
        [NAMES[3], "0.0", "0.0", "0.0", "10"],
    ]


def test_the_page_shows_the_numbers_that_are_in_the_files(reported: Path, page: Page) -> None:
    metrics = json.loads((reported / "metrics/test.json").read_text(encoding="utf-8"))
    assert page.text["accuracy"] == f"{100 * metrics['accuracy']:.2f}\u00a0%"
    assert page.text["loss"] == f"{metrics['loss']:.4f}"
    assert page.text["verdict"].startswith(
        "Right on 70.0\u00a0% of 40 images that it had never seen"
    )
    assert page.text["balanced-accuracy"] == "60.00\u00a0%"  # (20/20 + 8/10 + 0/10) / 3
    assert page.text["largest-class"] == "50.00\u00a0%"  # 20 of 40
    assert f"Always saying {NAMES[0]}, the largest class" in page.text["baseline"]
    assert "no better" not in page.text["baseline"]
    assert re.findall(r"[\d.]+(?=\u00a0%)", page.text["interval"]) == [
        "95",
        f"{100 * metrics['accuracy_low']:.2f}",
        f"{100 * metrics['accuracy_high']:.2f}",
    ]
    classes, confusion = page.tables["classes"], page.tables["matrix"]
    assert classes[1:] == [
        [name, *(f"{100 * float(share):.1f}" for share in shares), support]
        for name, *shares, support in table(reported, "metrics/per_class.csv")[1:]
    ]
    assert confusion[1] == ["Label", *NAMES]
    assert confusion[2:] == [
        [name, *map(str, row)] for name, row in zip(NAMES, MATRIX, strict=True)
    ]
    assert page.text["ece"] == f"{100 * metrics['ece']:.1f}\u00a0%"
    assert page.text["brier"] == f"{metrics['brier']:.4f}"
    assert page.tables["bins"][1:] == [["66.7 – 73.3\u00a0%", "40", "66.7\u00a0%", "70.0\u00a0%"]]
    assert page.tables["selective"][-1] == ["20\u00a0%", "8", "62.50\u00a0%", "12"]
    assert page.tables["epochs"][-1] == ["1", "0.5000", "0.5000", "70.00\u00a0%", "70.00\u00a0%"]


def test_test_images_that_were_trained_on_are_counted_and_the_others_measured(
    tmp_path: Path,
) -> None:
    lay_out(tmp_path, OUTCOME)
    arrays.write(tmp_path / "data/split/train_indices.npy", np.array([0, 2, 3]))

    finished = run(tmp_path)

    # Seen as class 0 are 20 right and 8 wrong images, all with the lit pixel 0.
    assert "\ntrained on 28 of the 40 test images\n" in finished.stdout
    page = Page((tmp_path / "reports/test_report.html").read_text(encoding="utf-8"))
    assert page.text["verdict"].startswith(
        "Right on 70.0\u00a0% of 40 images, 28 of which it was trained on"
    )
    assert "28 of the test images are also training images" in page.text["seen"]
    assert "On the 12 others the model is right on 66.67\u00a0%" in page.text["seen"]  # 8 of 12
    assert "never seen" not in page.text["verdict"]


def test_names_of_classes_are_text_and_never_markup(reported: Path, page: Page) -> None:
    source = (reported / "reports/test_report.html").read_text(encoding="utf-8")
    assert "<b>bold" not in source
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; &#39;quoted&#34;" in source


def test_the_page_needs_no_network(reported: Path, page: Page) -> None:
    source = (reported / "reports/test_report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|=[\"']?//|@import", source)
    assert page.tags.isdisjoint({"iframe", "object", "embed", "base"})
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    script = source[source.rindex("<script>") + len("<script>") : source.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'" in source
    )
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in source


def test_each_gallery_says_label_prediction_and_probabilities(page: Page) -> None:
    def captions(gallery: str) -> list[str]:
        text = page.text[gallery].replace("\u00a0", " ")
        return [" ".join(line.split()) for line in re.findall(r"[^\n]*seen as[^\n]*", text)]

    # All are equally wrong, so they stand in the order of the test set.
    expected = [f"{NAMES[1]} seen as {NAMES[0]}66.7 %"] * 2
    expected += [f"{NAMES[3]} seen as {NAMES[0]}66.7 %"] * 6
    expected += [f"{NAMES[3]} seen as {NAMES[1]}66.7 %"] * 4
    assert captions("most-wrong") == expected
    assert captions("best-and-worst") == [
        f"worst {NAMES[1]} seen as {NAMES[0]}11.1 %",
        f"best {NAMES[3]} seen as {NAMES[0]}11.1 %",
        f"worst {NAMES[3]} seen as {NAMES[0]}11.1 %",
    ]
    first = page.text["most-wrong"].replace("\u00a0", " ").split("seen as")[1]
    odds = re.findall(r"([^\n%]+?)(\d+\.\d %)", first)[1:5]
    assert odds == [(NAMES[0], "66.7 %"), *((name, "11.1 %") for name in NAMES[1:])]


def test_another_day_language_and_hash_seed_give_the_same_bytes(
    reported: Path, tmp_path: Path
) -> None:
    lay_out(tmp_path, OUTCOME)
    finished = run(
        tmp_path,
        "stages/test_report.py",
        TZ="Pacific/Kiritimati",
        LANG="de_DE.UTF-8",
        LC_ALL="C",
        PYTHONHASHSEED="1",
        PYTHONUTF8="0",
        SOURCE_DATE_EPOCH="0",
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert written(tmp_path) == written(reported)


def test_a_missing_model_is_said_in_a_few_lines_and_nothing_is_written(tmp_path: Path) -> None:
    lay_out(tmp_path, OUTCOME)
    (tmp_path / "models/model.pt").unlink()
    finished = run(tmp_path)
    assert finished.returncode == 1
    assert finished.stderr == (
        "error: models/model.pt is missing\n  next:     dvc repro trains it; dvc pull fetches it\n"
    )
    assert written(tmp_path) == {}


def test_when_none_is_wrong_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, [(0, 0, 3), (1, 1, 2)])
    monkeypatch.chdir(tmp_path)
    stage.main()
    page = Page((tmp_path / "reports/test_report.html").read_text(encoding="utf-8"))
    assert sorted(written(tmp_path)) == OUTPUTS
    assert page.text["accuracy"] == "100.00\u00a0%"
    assert "None of the 5 images is wrong." in page.text["most-wrong"]
    assert "None of the 5 images" not in page.text["random-sample"]


def test_as_many_wrong_images_are_shown_as_params_yaml_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, OUTCOME)
    yaml = YAML()
    values = yaml.load(tmp_path / "params.yaml")
    values["test_report"]["most_wrong"] = 3
    yaml.dump(values, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    stage.main()
    page = Page((tmp_path / "reports/test_report.html").read_text(encoding="utf-8"))
    assert page.text["most-wrong"].count("seen as") == 3
    assert page.text["random-sample"].count("\u00a0%") == 3 * (1 + len(NAMES))


def test_a_model_without_a_finite_loss_is_an_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, OUTCOME)
    model = architectures.build(sections.model("logistic_regression"), SHAPE, len(NAMES))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, torch.finfo(torch.float32).max)
    weights.save(tmp_path / "models/model.pt", model.state_dict())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"(?s)is not a number.*found: +nan"):
        stage.main()
    assert written(tmp_path) == {}


def test_an_image_without_a_label_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, OUTCOME)
    arrays.write(tmp_path / "data/raw/test_labels.npy", np.zeros(39, dtype=np.int64))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="40 images and 39 labels"):
        stage.main()


def test_images_are_normalized_by_the_mean_and_deviation_in_the_model_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, OUTCOME)
    state = weights.read(tmp_path / "models/model.pt")
    # Pixels of 255 become 2 and those of 0 become 1, which all classes share.
    state["normalize.mean"].fill_(-255)
    state["normalize.std"].fill_(255)
    weights.save(tmp_path / "models/model.pt", state)
    monkeypatch.chdir(tmp_path)
    stage.main()
    # A lit pixel has a logit of 2 ln 6, the others of ln 6: the same probabilities.
    assert json.loads((tmp_path / "metrics/test.json").read_text())["loss"] == pytest.approx(
        -(28 * math.log(6 / 9) + 12 * math.log(1 / 9)) / 40, abs=2e-6
    )
    state["normalize.std"].fill_(255 / 2)  # logits of 4 ln 6 and 2 ln 6: 36 times as likely
    weights.save(tmp_path / "models/model.pt", state)
    stage.main()
    assert json.loads((tmp_path / "metrics/test.json").read_text())["loss"] == pytest.approx(
        -(28 * math.log(36 / 39) + 12 * math.log(1 / 39)) / 40, abs=2e-6
    )
