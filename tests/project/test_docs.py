"""The docs show what the commands print, in plain words."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

LONGEST_README = 150  # lines

# Words that a reader of this field does not expect, each with a plain alternative.
QUAINT = {
    r"anew|made again": "recreate, rebuild, again",
    r"mend(s|ed|ing)?": "repair, fix",
    r"deal(s|ing)? out|dealt": "split",
    r"placed by hand": "local files, provided manually",
    r"hand(s|ed|ing)? over": "reject, selective prediction, coverage",
    r"parts? of (a|the|each|every) batch": "microbatch",
    r"beside validation": "compared with validation",
    r"(each|either|both|two) sides?": "base and head",
    r"cautions?": "warnings",
    r"exhibits?": "figures",
    r"surroundings": "environment",
    r"can not": "cannot",
    r"rot(s|ted|ten)?": "corrupted",
    r"clothes": "Fashion-MNIST",
    r"wished for": "the goal",
    r"cut off": "truncated",
}
# Where none may occur.
PLAIN = (
    *(
        "README.md",
        "CONTRIBUTING.md",
        "docs/",
        "core/",
        "stages/",
        "tools/",
        "benchmarks/",
        "tests/",
    ),
    *("params.yaml", "dvc.yaml", "Makefile", ".ci/", ".github/", "pyproject.toml", ".gitignore"),
)
THIS_FILE = "tests/project/test_docs.py"  # it lists them


def test_the_readme_can_be_read_in_one_go() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST_README


def test_the_index_links_to_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([\w-]+\.md)\)", index)
    assert sorted(linked) == sorted({page.name for page in PAGES} - {"README.md"})


def test_words_are_those_of_the_field() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PLAIN], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    found = []
    for name in filter(None, listed):
        if name == THIS_FILE:
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\bdef test_\w+", lambda test: test[0].replace("_", " "), text)
        for words, instead in QUAINT.items():
            for match in re.finditer(rf"\b({words})\b", text, re.IGNORECASE):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{name}:{line}: {match[0]}: write {instead}")
    assert found == []


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("DVC makes it anew", "anew"),
        ("make mend", "mend"),
        ("what rotted on the disk", "rotted"),
        ("files that can not be read", "can not"),
        ("five seeds of each side", "each side"),
    ],
)
def test_quaint_words_are_recognised(sentence: str, words: str) -> None:
    found = [re.search(rf"\b({quaint})\b", sentence, re.IGNORECASE) for quaint in QUAINT]
    assert [match[0] for match in found if match] == [words]


def test_the_readme_shows_what_make_repro_ends_with() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "tools.summary"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    printed = printed.replace("make repro writes it", "reports/test_report.html")
    assert printed.strip("\n") in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_docs_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_each_fault_of_the_docs_is_tried_by_the_tests_that_it_names() -> None:
    tables = [
        table.splitlines()[2:]
        for page in PAGES
        for table in page.read_text(encoding="utf-8").split("\n\n")
        if table.startswith("| fault | what happens | test |\n")
    ]
    rows = [row for table in tables for row in table]
    tests = {
        file.stem: re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        for file in ROOT.glob("tests/**/test_*.py")
    }
    for row in rows:
        named = re.search(r"\| (test_\w+): ([\w ;]+) \|$", row)
        assert named, row
        for sentence in named[2].split("; "):
            assert f"test_{sentence.replace(' ', '_')}" in tests[named[1]], row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_named_in_the_docs_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(
        r"(?:`|^ {4}|^\$ )make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["compare"], "tools.compare train.lr=0.001,0.003,0.01,0.03,0.1,0.3,1 --seeds 3"),
        (["compare", "COMPARE=train.lr=1 --seeds 2"], "tools.compare train.lr=1 --seeds 2"),
        (["recipe"], "tools.recipe"),
        (
            ["recipe", "NAME=cnn-mnist", "SEEDS=5", "SET=train.epochs=20"],
            "tools.recipe cnn-mnist train.epochs=20 --seeds 5",
        ),
        (["experiments"], "tools.list_experiments"),
        (["experiments", "ARGS=-n 3"], "tools.list_experiments -n 3"),
        (
            ["predict", "IMAGES=a.png digits/*.jpg", "ARGS=--rev lr-1"],
            "tools.predict --rev lr-1 a.png digits/*.jpg",
        ),
        (["review", "BASE=v1", "HEAD=feature"], "tools.review v1 feature"),
        (["review", "HEAD=feature"], "tools.review '' feature"),
        (["review", "SEEDS=5"], "tools.review --seeds 5"),
    ],
)
def test_make_runs_the_commands_that_the_docs_say(words: list[str], command: str) -> None:
    tool = command.split()[0].replace(".", "/")
    if not ((ROOT / tool).exists() or (ROOT / f"{tool}.py").exists()):
        pytest.skip(f"this project has no {tool}")
    output = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", *words],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert " ".join(output.splitlines()[-1].split()).endswith(f" python -m {command}")
