"""The page of the report: its figures, its size, and how it behaves in a real browser."""

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from core.data import idx
from core.data.dataset_params import DatasetParams
from core.data.split_params import SplitParams
from core.pipeline import files
from core.report import image_grids, report
from core.report.image_selection import Classified
from core.report.report import Validation
from core.report.results import Measured
from core.training.model_params import ModelParams
from core.training.numerics_params import NumericsParams
from core.training.train_params import TrainParams
from stages import test_report as stage
from tests.support import browser, parameters
from tests.support.project import MIRROR, ROOT

HISTORY = [
    {"epoch": 0.0, "train_loss": 2.3, "train_accuracy": 0.1, "val_loss": 2.3, "val_accuracy": 0.1},
    {"epoch": 1.0, "train_loss": 1.1, "train_accuracy": 0.8, "val_loss": 1.1, "val_accuracy": 0.8},
]
MARKUP = ["</script><b>x</b>", "<img src=x onerror=alert(1)>", "\" ' & {{ 7 }}", "<!--"]


def validation(correct: int = 8099, images: int = 10_000) -> Validation:
    measured = Measured(loss=1.1, accuracy=correct / images)
    return Validation(correct, images, measured, measured, HISTORY)


def page(tested: Classified, validation: Validation, *, linear: bool = True) -> str:
    """Write the page of a test set as the stage does."""
    chosen = parameters.checked()
    unlike = np.zeros((1, 1, 1, 1), dtype=np.uint8)  # no image of a test set has this size
    findings = report.find(tested, train_images=unlike, train_indices=np.array([0]), count=20)
    shape = tested.images.shape[1:]
    weight = np.random.default_rng(0).normal(size=(len(tested.names), *shape)).astype(np.float32)
    return report.page(
        *((ROOT / path).read_text("utf-8") for path in (stage.TEMPLATE, stage.STYLE, stage.SCRIPT)),
        recipe=report.recipe(
            chosen.section(DatasetParams),
            chosen.section(SplitParams),
            chosen.section(ModelParams),
            chosen.section(TrainParams),
            chosen.section(NumericsParams).root,
        ),
        tested=tested,
        findings=findings,
        metrics=stage.test_metrics(tested, 1.0819, findings, validation),
        validation=validation,
        templates=image_grids.templates(weight, shape) if linear else None,
    )


def made_up(
    outcome: NDArray[np.int64], names: list[str], *, channels: int = 1, size: int = 8
) -> Classified:
    """A test set of random images.

    Args:
        outcome: int64 (N, 2), label and prediction of each image.
        names: of the classes.
        channels: of the images.
        size: of the images, in pixels.
    """
    generator = np.random.default_rng(0)
    count = len(outcome)
    probabilities = generator.dirichlet(np.ones(len(names)), count) / 2
    probabilities[np.arange(count), outcome[:, 1]] += 0.5
    images = generator.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    return Classified(images, outcome[:, 0], probabilities.astype(np.float32), names)


def cells_of(source: str) -> Any:
    """What the page's script knows of the confusion matrix."""
    found = re.search(r'<script type="application/json" id="cells">(.*?)</script>', source)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def mnist() -> Classified:
    """The test images of MNIST, and what the committed model makes of them."""
    images, labels = (
        idx.parse(
            gzip.decompress((ROOT / MIRROR / f"t10k-{name}.gz").read_bytes()),
            dtype=np.uint8,
            shape=shape,
            where=name,
        )
        for name, shape in {
            "images-idx3-ubyte": (10_000, 28, 28),
            "labels-idx1-ubyte": (10_000,),
        }.items()
    )
    rows = list(csv.DictReader(io.StringIO((ROOT / stage.TEST_PREDICTIONS).read_text("utf-8"))))
    predicted = np.array([int(row["prediction"]) for row in rows])
    probability = np.array([float(row["probability"]) for row in rows])
    probabilities = np.repeat((1 - probability[:, np.newaxis]) / 9, 10, axis=1)
    probabilities[np.arange(len(rows)), predicted] = probability
    return Classified(
        images.reshape(-1, 28, 28, 1),
        labels.astype(np.int64),
        probabilities.astype(np.float32),
        [str(digit) for digit in range(10)],
    )


@pytest.fixture(scope="module")
def written(mnist: Classified, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "test_report.html"
    files.write_text(path, page(mnist, validation()))
    return path


def test_all_images_of_mnist_fit_into_two_megabytes(written: Path, mnist: Classified) -> None:
    assert written.stat().st_size < 2_000_000
    cells = cells_of(written.read_text("utf-8"))
    matrix = sklearn.metrics.confusion_matrix(mnist.labels, mnist.predicted)
    assert cells["matrix"] == matrix.tolist()
    for label, row in enumerate(cells["rows"]):
        shown = {int(each): cell["images"] for each, cell in row["cells"].items()}
        assert {each: len(images) for each, images in shown.items()} == {
            each: count for each, count in enumerate(matrix[label].tolist()) if count
        }
        for prediction, images in shown.items():
            assert (mnist.labels[images] == label).all()
            assert (mnist.predicted[images] == prediction).all()


def test_the_figures_are_those_of_scikit_learn(written: Path, mnist: Classified) -> None:
    text = re.sub(r"<[^>]+>", " ", written.read_text("utf-8")).replace("\u00a0", " ")
    accuracy = sklearn.metrics.accuracy_score(mnist.labels, mnist.predicted)
    assert f"Right on {100 * accuracy:.1f} % of 10,000 images" in text
    scores = sklearn.metrics.precision_recall_fscore_support(mnist.labels, mnist.predicted)
    for digit, (precision, recall, f1, support) in enumerate(zip(*scores, strict=True)):
        row = rf"\b{digit}\s+" + r"\s+".join(
            [f"{100 * share:.1f}" for share in (precision, recall, f1)] + [f"{support:,}"]
        )
        assert re.search(row, text), row


def test_the_page_is_the_same_each_time(written: Path, mnist: Classified) -> None:
    assert page(mnist, validation()) == written.read_text("utf-8")


@pytest.mark.parametrize(
    ("correct", "said"),
    [
        (90, "Worse than validation promised, by more than chance."),
        (50, "Better than on validation, by more than chance."),
        (72, "The test agrees with validation."),
    ],
)
def test_a_difference_from_validation_is_a_warning_only_beyond_chance(
    correct: int, said: str
) -> None:
    outcome = np.array([(0, 0)] * 70 + [(1, 0)] * 30)
    source = page(made_up(outcome, ["a", "b"]), validation(correct, 100))
    verdicts = re.findall(
        r"Worse than validation[^<]*|Better than[^<]*|The test agrees[^<]*", source
    )
    assert verdicts == [said]
    assert ('id="warning"' in source) == (correct != 72)


@pytest.mark.parametrize(("right", "said"), [(50, True), (51, False)])
def test_an_accuracy_no_better_than_that_of_the_largest_class_alone_is_called_that(
    right: int, said: bool
) -> None:
    # 50 of 100 images are of class b: always saying b is right on half.
    outcome = np.array([(1, 1)] * 50 + [(0, 1)] * (50 - right + 50) + [(0, 0)] * (right - 50))
    source = page(made_up(outcome, ["a", "b"]), validation(50, 100))
    assert ("the model is no better than that" in source) == said


def test_another_model_has_no_section_of_weights() -> None:
    tested = made_up(np.array([(0, 0), (1, 1)]), ["a", "b"])
    assert 'id="weights"' in page(tested, validation())
    assert 'id="weights"' not in page(tested, validation(), linear=False)


@browser.needs_browser
def test_a_click_on_a_cell_shows_its_images(written: Path, mnist: Classified) -> None:
    with browser.opened(written.as_uri()) as opened:
        for label, prediction in ((4, 9), (1, 1), (9, 5)):
            count = int(((mnist.labels == label) & (mnist.predicted == prediction)).sum())
            cell = opened.locator("#matrix tbody tr").nth(label).locator("td").nth(prediction)
            assert cell.inner_text() == str(count)
            cell.locator("button").click()
            assert opened.locator("#cell-images li").count() == count
            what = "what it is" if label == prediction else str(prediction)
            images = "1 image" if count == 1 else f"{count:,} images"
            assert opened.inner_text("#cell-heading") == f"{label} seen as {what}: {images}"
            assert cell.locator("button").get_attribute("aria-expanded") == "true"
            for position in {0, count - 1}:
                assert_pixels(opened, position, mnist)
        assert opened.locator("[aria-expanded=true]").count() == 1
        assert browser.accessibility_faults(opened) == []
        opened.keyboard.press("Escape")
        assert not opened.locator("#cell").is_visible()
        assert opened.evaluate("document.activeElement.textContent") == "3"
        opened.keyboard.press("ArrowLeft")
        assert opened.evaluate("document.activeElement.ariaLabel") == "9 seen as 4: 64 images"
        opened.keyboard.press("Enter")
        assert opened.locator("#cell-images li").count() == 64
        opened.click("#cell-close")
        assert not opened.locator("#cell").is_visible()


def assert_pixels(opened: Page, position: int, tested: Classified) -> None:
    """Of all images of the test set, this one looks most like the one that it says it is."""
    tile = opened.locator("#cell-images span").nth(position)
    label = re.match(r"Image (\d+): ", tile.get_attribute("aria-label") or "")
    assert label
    image = Image.open(io.BytesIO(tile.screenshot())).convert("L").resize((28, 28))
    seen = np.asarray(image).astype(float).ravel()
    distances = np.abs(tested.images.reshape(-1, 28 * 28) - seen).sum(axis=1)
    assert distances.argmin() == int(label[1])


@browser.needs_browser
def test_the_table_of_classes_is_sorted_by_its_heads(written: Path) -> None:
    with browser.opened(written.as_uri()) as opened:

        def column(number: int) -> list[float]:
            texts = opened.locator(f"#classes tbody tr > :nth-child({number})").all_inner_texts()
            return [float(text.replace(",", "")) for text in texts]

        original = column(2)
        head = opened.locator("#classes thead th").nth(1)
        head.locator("button").click()
        assert column(2) == sorted(original)
        assert head.get_attribute("aria-sort") == "ascending"
        head.locator("button").press("Enter")
        assert column(2) == sorted(original, reverse=True)
        assert head.get_attribute("aria-sort") == "descending"
        opened.locator("#classes thead button").first.click()
        assert column(1) == list(range(10))
        assert opened.locator("[aria-sort]").count() == 1


@browser.needs_browser
def test_probabilities_show_on_hover_and_on_focus_and_not_on_paper(written: Path) -> None:
    with browser.opened(written.as_uri(), size=browser.PHONE, dark=True) as opened:
        assert not browser.overflows(opened)
        assert browser.accessibility_faults(opened) == []
        tiles = opened.locator("[aria-labelledby=most-wrong] .tile")
        first, fourth = tiles.nth(0).locator(".odds"), tiles.nth(3).locator(".odds")
        assert not first.is_visible()
        tiles.nth(0).hover()
        assert first.is_visible()
        assert first.locator("span").count() >= 5
        tiles.nth(3).focus()
        assert fourth.is_visible()
        box = fourth.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= browser.PHONE[0]
        opened.keyboard.press("Escape")
        assert not fourth.is_visible()
        tiles.nth(3).focus()
        opened.emulate_media(media="print")
        assert opened.locator(".odds:visible").count() == 0


def edge_case(name: str) -> Classified:
    generator = np.random.default_rng(0)
    if name == "all right":
        return made_up(np.repeat(np.arange(3), 4)[:, np.newaxis].repeat(2, axis=1), list("abc"))
    if name == "a class is never predicted, colours":
        outcome = np.stack([np.arange(60) % 3, np.arange(60) % 2], axis=1)
        return made_up(outcome, ["Ankle boot", "Trouser", "T-shirt/top"], channels=3, size=32)
    if name == "markup in names":
        return made_up(generator.integers(0, 4, (40, 2)), MARKUP)
    names = [f"class number {number}" for number in range(100)]
    return made_up(generator.integers(0, 100, (2000, 2)), names, channels=3, size=32)


@browser.needs_browser
@pytest.mark.parametrize(
    "name",
    ["all right", "a class is never predicted, colours", "markup in names", "a hundred classes"],
)
def test_unusual_test_sets_are_readable_on_a_phone(tmp_path: Path, name: str) -> None:
    tested = edge_case(name)
    source = page(tested, validation())
    assert len(source.encode("utf-8")) < 2_000_000
    files.write_text(tmp_path / "page.html", source)
    shown = sum(
        len(cell["images"]) for row in cells_of(source)["rows"] for cell in row["cells"].values()
    )
    with browser.opened((tmp_path / "page.html").as_uri(), size=browser.PHONE) as opened:
        assert not browser.overflows(opened)
        button = opened.locator("#matrix tbody button").first
        count = int(button.inner_text())
        button.click()
        listed = opened.locator("#cell-images li").count()
        heading = opened.inner_text("#cell-heading")
        assert heading.startswith(f"{tested.names[0]} seen as ")
        assert heading.endswith(f": {count:,} image{'s' if count > 1 else ''}")
        if name == "a hundred classes":  # too many to ask for each of the faults
            assert shown < len(tested.labels)
            assert listed <= count
        else:
            assert shown == len(tested.labels)
            assert listed == count
            assert browser.accessibility_faults(opened) == []
