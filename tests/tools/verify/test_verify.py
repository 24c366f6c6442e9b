"""`python -m tools.verify` on projects whose stages can break reproducibility on request.

What is planted in them reads the variable PLANTED, so that a result depends on
something that no hash covers: the fault that verify is for. `planted` is the
pipeline itself on a few hundred images; `small` has three stages of a few lines,
for all that does not depend on what the stages do.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from tests.support.project import ROOT, Project, copy_project, make_tiny

PLANTED_IN_TRAIN = """
    import os
    if os.environ.get("PLANTED") == "train":
        kept["linear.weight"][3, 5] += 0.25
        history[2] = (*history[2][:3], 9.5, history[2][4])
"""
MAKE = """\
import json, locale, os, sys, time
from pathlib import Path

planted = os.environ.get("PLANTED")
print("making numbers", flush=True)
if planted == "failure":
    sys.exit("error: a planted failure")
if planted == "environment":
    from numpy._core._multiarray_umath import __cpu_features__

    seen = {
        "avx2": __cpu_features__["AVX2"],
        "cwd": os.getcwd(),
        "encoding": locale.getencoding(),
        "environment": dict(os.environ),
        "listed": os.listdir("tools"),
        "scanned": [path.name for path in Path("tools").glob("*")],
        "hour": time.localtime(0).tm_hour,
        "umask": os.umask(0o022),
    }
    Path(os.environ["SEEN"]).write_text(json.dumps(seen))
    sys.exit(3)
if planted == "pause":
    time.sleep(120)
Path("numbers.txt").write_text("1\\n2\\n4\\n" if planted == "number" else "1\\n2\\n3\\n")
"""
DRAW = """\
import os
from PIL import Image

picture = Image.new("L", (5, 4), 250)
if os.environ.get("PLANTED") in ("number", "picture"):
    picture.putpixel((0, 0), 200)
picture.save("picture.png")
"""
MEASURE = """\
import json, os
from pathlib import Path

from ruamel.yaml import YAML

scale = YAML(typ="safe").load(Path("params.yaml"))["scale"]
numbers = [int(line) for line in Path("numbers.txt").read_text().split()]
measured = {"sum": scale * sum(numbers), "count": len(numbers)}
if os.environ.get("PLANTED") == "metric":
    measured["sum"] = 12.5
Path("metrics").mkdir(exist_ok=True)
Path("metrics/sum.json").write_text(json.dumps(measured))
"""
DVC_YAML = """\
stages:
  make:
    cmd: python make.py
    deps: [make.py]
    outs: [numbers.txt]
  measure:
    cmd: python measure.py
    deps: [measure.py, numbers.txt]
    params: [scale]
    metrics:
      - metrics/sum.json:
          cache: false
  draw:
    cmd: python draw.py
    deps: [draw.py]
    outs: [picture.png]
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of three stages with its results committed; nothing changes its branch main."""
    project = Project(tmp_path_factory.mktemp("small"))
    for package in ("core", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, project.folder / package, ignore=ignored)
    shutil.copy(ROOT / "requirements.lock", project.folder)
    for name, text in {
        ".gitignore": "__pycache__/\n",
        "dvc.yaml": DVC_YAML,
        "draw.py": DRAW,
        "make.py": MAKE,
        "measure.py": MEASURE,
        "params.yaml": "numerics: portable\nscale: 2\n",
    }.items():
        (project.folder / name).write_text(text, encoding="utf-8")
    project.start_history()
    project.must("dvc", "init", "--quiet")
    project.must("dvc", "config", "core.analytics", "false")
    project.must("dvc", "repro")
    project.commit("Results")
    return project


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The pipeline on a tiny data set with its results committed."""
    project = make_tiny(copy_project(tmp_path_factory.mktemp("project")))
    saving = "    if processes.first:\n        files.write_csv(HISTORY, columns, history)\n"
    project.replace("stages/train.py", saving, PLANTED_IN_TRAIN + saving)
    (project.folder / "dvc.lock").unlink()
    project.must("dvc", "repro")
    project.commit("Results")
    return project


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where verify makes its folders in these tests."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def verify(
    project: Project, temporary: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command, and check that nothing stays behind that should not."""
    done = project.run(
        *("python", "-m", "tools.verify", *arguments), **{"TMPDIR": str(temporary), **environment}
    )
    assert "Traceback" not in done.stderr, done.stderr
    if "--keep" not in arguments:
        assert list(temporary.iterdir()) == []
    return done


def variant(project: Project, changes: dict[str, tuple[str, str]]) -> str:
    """Commit changes of some files, from one text to another, on no branch.

    Returns:
        The commit's hash.
    """
    project.must("git", "checkout", "--quiet", "--detach", "main")
    for file, (old, new) in changes.items():
        if old:
            project.replace(file, old, new)
        else:
            (project.folder / file).write_text(new, encoding="utf-8")
    project.commit("A variant")
    commit = project.must("git", "rev-parse", "HEAD").strip()
    project.must("git", "checkout", "--quiet", "main")
    return commit


@pytest.mark.slow
def test_a_rebuild_with_the_committed_bytes_is_said_to_be_the_same(
    planted: Project, temporary: Path, tmp_path: Path
) -> None:
    # A setting of the user's that would lead DVC to another cache.
    cache = tmp_path / "cache of the user"
    (tmp_path / "config").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
    (planted.folder / "notes.txt").write_text("untracked, and no stage reads it")
    done = verify(planted, temporary, DVC_GLOBAL_CONFIG_DIR=str(tmp_path))
    (planted.folder / "notes.txt").unlink()
    assert done.returncode == 0, done.stderr
    lock = planted.read("dvc.lock")
    files = len({line.split("path: ")[1] for line in lock.splitlines() if "path: " in line})
    assert f"Same: all {files} files have the committed bytes" in done.stdout
    stages = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" s")]
    assert sorted(stages) == sorted(yaml.safe_load(lock)["stages"])
    assert not cache.exists()
    assert planted.must("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_the_stage_the_tensor_and_the_row_that_differ_are_named(
    planted: Project, temporary: Path
) -> None:
    done = verify(planted, temporary, PLANTED="train")
    assert done.returncode == 1, done.stderr
    before = planted.read("metrics/history.csv").splitlines()[3].split(",")[3]
    assert before != "9.5"
    assert (
        "The first difference is in the stage train: same inputs, other outputs\n"
        "  metrics/history.csv\n"
        f"    row 3 (epoch 2), val_loss: {before} → 9.5\n"
        "  models/model.pt\n"
        "    linear.weight, float32 (10, 784): 1 of 7,840 differ, by at most 0.25\n"
        "\n"
        "Other inputs or settings: evaluate, test_report\n"
        "\n"
        "Likely cause:\n"
        "  unknown: "
    ) in done.stdout


def test_a_field_of_a_json_is_named_with_both_values(small: Project, temporary: Path) -> None:
    done = verify(small, temporary, PLANTED="metric")
    assert done.returncode == 1, done.stderr
    assert "Different: 1 of 6 files" in done.stdout
    assert (
        "The first difference is in the stage measure: same inputs, other outputs\n"
        "  metrics/sum.json\n"
        "    sum: 12 → 12.5\n"
        "\n"
        "Likely cause:\n"
    ) in done.stdout


def test_the_pixels_of_an_image_are_counted(small: Project, temporary: Path) -> None:
    done = verify(small, temporary, PLANTED="picture")
    assert done.returncode == 1, done.stderr
    assert (
        "The first difference is in the stage draw: same inputs, other outputs\n"
        "  picture.png\n"
        "    5 × 4 L: 1 of 20 pixels differ, by at most 50 of 255\n"
    ) in done.stdout


def test_stages_that_differ_for_themselves_and_those_that_follow_are_distinguished(
    small: Project, temporary: Path
) -> None:
    done = verify(small, temporary, PLANTED="number")
    assert done.returncode == 1, done.stderr
    assert (
        "The first difference is in the stage make: same inputs, other outputs\n"
        "  numbers.txt\n"
        "    line 3: '3' → '4'\n"
        "\n"
        "Same inputs and other outputs, too: draw\n"
        "\n"
        "Other inputs or settings: measure\n"
    ) in done.stdout


def test_without_the_committed_file_its_hash_is_named_and_how_to_get_it(
    small: Project, temporary: Path, tmp_path: Path
) -> None:
    clone = Project(tmp_path / "clone")
    small.must("git", "clone", "--quiet", str(small.folder), str(clone.folder))
    done = verify(clone, temporary, PLANTED="number")
    assert done.returncode == 1, done.stderr
    # The MD5 sums of "1\\n2\\n3\\n" and "1\\n2\\n4\\n", as coreutils' md5sum gives them.
    assert (
        "  numbers.txt\n"
        "    md5 c0710d6b4f15dfa88f600b0e6b624077 → 035bf935319c14199ee0bebaf4fcfec8\n"
        "    the committed file is missing, so only its hash is known: "
        "dvc pull numbers.txt fetches it, if it was pushed\n"
    ) in done.stdout


def test_fast_numerics_and_another_package_are_named_as_causes(
    small: Project, temporary: Path
) -> None:
    tqdm = metadata.version("tqdm")
    commit = variant(
        small,
        {
            "params.yaml": ("numerics: portable", "numerics: fast"),
            "requirements.lock": (f"\ntqdm=={tqdm}\n", "\ntqdm==4.0.0\n"),
        },
    )
    done = verify(small, temporary, commit, PLANTED="number")
    assert done.returncode == 1, done.stderr
    assert "The first difference is in the stage make" in done.stdout
    _, causes = done.stdout.split("Likely cause:\n")
    assert f"  other packages than requirements.lock: tqdm {tqdm} (locked 4.0.0); " in causes
    assert "  numerics: fast in params.yaml" in causes
    assert "unknown" not in causes


def test_a_lock_that_was_not_made_from_its_commit_is_said_to_be_stale(
    small: Project, temporary: Path
) -> None:
    changes = {
        "make.py": ("import json", "import csv, json"),
        "params.yaml": ("scale: 2", "scale: 3"),
    }
    done = verify(small, temporary, variant(small, changes))
    assert done.returncode == 1, done.stderr
    assert "The first difference" not in done.stdout
    assert (
        "Other inputs or settings: make, measure\n"
        "\n"
        "Likely cause:\n"
        "  dvc.lock is older than the change of make.py, scale in params.yaml; dvc repro\n"
    ) in done.stdout


def test_metrics_edited_by_hand_and_metrics_that_no_stage_writes_are_found(
    small: Project, temporary: Path
) -> None:
    changes = {
        "metrics/sum.json": ('"sum": 12', '"sum": 13'),
        "metrics/older.json": ("", '{"sum": 1}\n'),
    }
    done = verify(small, temporary, variant(small, changes))
    assert done.returncode == 1, done.stderr
    assert "The first difference is in the stage measure" in done.stdout
    assert "  metrics/sum.json\n    sum: 13 → 12\n" in done.stdout
    assert "\nmetrics/older.json is committed, and no stage writes it\n" in done.stdout
    assert "Different: 2 of 7 files" in done.stdout
    _, causes = done.stdout.split("Likely cause:\n")
    assert causes == (
        "  metrics/sum.json was changed after dvc.lock was written; dvc repro\n"
        "  metrics/older.json is a leftover; git rm metrics/older.json\n"
    )


def test_a_stage_that_dvc_yaml_no_longer_has_is_not_compared(
    small: Project, temporary: Path
) -> None:
    draw = DVC_YAML[DVC_YAML.index("  draw:\n") :]
    done = verify(small, temporary, variant(small, {"dvc.yaml": (draw, "")}))
    assert done.returncode == 0, done.stdout + done.stderr
    # make.py, numbers.txt, measure.py and the metric; not draw.py and picture.png
    assert "Same: all 4 files have the committed bytes" in done.stdout


@pytest.mark.slow
def test_a_hostile_environment_changes_nothing(planted: Project, temporary: Path) -> None:
    done = verify(planted, temporary, "--hostile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hostile environment" in done.stdout


def test_a_hostile_environment_is_what_it_is_said_to_be(
    small: Project, temporary: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.json"
    done = verify(small, temporary, "--hostile", PLANTED="environment", SEEN=str(seen))
    assert done.returncode == 2
    stage = json.loads(seen.read_text(encoding="ascii"))
    assert stage["hour"] == 5  # midnight in Greenwich was 5:30 in Nepal in 1970
    assert stage["encoding"] in ("ANSI_X3.4-1968", "US-ASCII")
    assert stage["umask"] == 0o077
    assert stage["environment"]["LANGUAGE"] == "tr"
    assert stage["environment"]["PYTHONHASHSEED"] == "4711"
    assert stage["environment"]["OMP_NUM_THREADS"] == "3"
    assert stage["environment"]["HOME"] != os.environ["HOME"]
    assert " " in stage["cwd"]
    assert not stage["cwd"].isascii()
    names = sorted(small.must("git", "ls-tree", "--name-only", "HEAD:tools").split(), reverse=True)
    assert stage["listed"] == names
    assert stage["scanned"] == names


def test_keep_leaves_the_folder_and_says_where(small: Project, temporary: Path) -> None:
    done = verify(small, temporary, "--keep", PLANTED="failure")
    assert done.returncode == 2
    (folder,) = temporary.iterdir()
    assert f"  in {folder}, which is kept\n" in done.stdout
    assert "a planted failure" in (folder / "rebuild.log").read_text(encoding="utf-8")
    assert (folder / "clone/make.py").exists()


def test_a_stage_that_fails_is_named_with_what_it_printed(small: Project, temporary: Path) -> None:
    done = verify(small, temporary, PLANTED="failure")
    assert done.returncode == 2
    assert "error: the rebuild failed in the stage make\n" in done.stderr
    assert "making numbers\n" in done.stderr
    assert "error: a planted failure\n" in done.stderr


def test_an_end_from_outside_ends_the_stage_too_and_leaves_nothing(
    small: Project, temporary: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.verify"],
        cwd=small.folder,
        env={**os.environ, "TMPDIR": str(temporary), "PLANTED": "pause"},
        stdout=subprocess.PIPE,
        text=True,
    )
    log = "rebuild.log"
    deadline = time.monotonic() + 60
    while not any("making" in p.read_text() for p in temporary.glob(f"*/{log}")):
        assert time.monotonic() < deadline, "the stage did not start"
        time.sleep(0.1)
    (clone,) = temporary.glob("*/clone")
    assert working_in(clone) != []
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert working_in(clone) == []
    assert list(temporary.iterdir()) == []


def working_in(folder: Path) -> list[int]:
    """The processes whose working directory is or was `folder`."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            directory = link.readlink()
        except OSError:  # ended since, or another user's
            continue
        if directory.is_relative_to(folder):
            found.append(int(link.parent.name))
    return found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("params.yaml", "numerics: fast\n"),
        ("make.py", "# changed\n"),
        ("metrics/new.json", "{}\n"),
    ],
)
def test_uncommitted_changes_that_matter_are_refused(
    small: Project, temporary: Path, file: str, text: str
) -> None:
    before = (small.folder / file).read_bytes() if (small.folder / file).exists() else None
    (small.folder / file).write_text(text, encoding="utf-8")
    done = verify(small, temporary)
    if before is None:
        (small.folder / file).unlink()
    else:
        (small.folder / file).write_bytes(before)
    assert done.returncode == 2
    assert "error: uncommitted changes" in done.stderr
    assert f"  found:    {file}\n" in done.stderr
    assert "python -m tools.verify HEAD" in done.stderr


def test_an_unknown_revision_is_refused(small: Project, temporary: Path) -> None:
    done = verify(small, temporary, "v99")
    assert done.returncode == 2
    assert "error: there is no revision v99\n" in done.stderr


def test_a_revision_without_a_lock_is_refused(small: Project, temporary: Path) -> None:
    small.must("git", "checkout", "--quiet", "--detach")
    small.must("git", "rm", "--quiet", "--cached", "dvc.lock")
    small.must("git", "commit", "--quiet", "--message", "No lock")
    commit = small.must("git", "rev-parse", "HEAD").strip()
    small.must("git", "checkout", "--quiet", "--force", "main")
    done = verify(small, temporary, commit)
    assert done.returncode == 2
    assert "error: the revision has no dvc.lock" in done.stderr
    assert "No lock" in done.stderr


def test_an_archive_without_git_is_refused(small: Project, temporary: Path, tmp_path: Path) -> None:
    archive = Project(tmp_path / "archive")
    shutil.copytree(small.folder, archive.folder, ignore=shutil.ignore_patterns(".git", "cache"))
    done = verify(archive, temporary, GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert done.returncode == 2
    assert "run it in a clone of the repository, not in an unpacked archive" in done.stderr


def test_a_project_in_a_folder_of_a_repository_is_rebuilt(
    small: Project, temporary: Path, tmp_path: Path
) -> None:
    top = Project(tmp_path / "company")
    ignored = shutil.ignore_patterns(".git", "cache", "tmp")
    project = Project(top.folder / "ml")
    shutil.copytree(small.folder, project.folder, ignore=ignored)
    top.must("git", "init", "--quiet")
    top.must("git", "config", "user.name", "Test")
    top.must("git", "config", "user.email", "test@example.org")
    top.commit("Everything")
    (top.folder / "metrics").mkdir()
    (top.folder / "metrics/other.json").write_text("{}")  # not of this project
    done = verify(project, temporary)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Same: all 6 files have the committed bytes" in done.stdout
    (project.folder / "metrics/sum.json").write_text("{}")
    assert "found:    metrics/sum.json" in verify(project, temporary).stderr


def test_without_qemu_the_line_that_installs_it_is_named(
    small: Project, temporary: Path, tmp_path: Path
) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "git").symlink_to(shutil.which("git") or "git")
    done = subprocess.run(
        [sys.executable, "-m", "tools.verify", "--cpu", "Nehalem"],
        cwd=small.folder,
        env={**os.environ, "PATH": str(commands), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: --cpu needs qemu-x86_64, which is not installed\n" in done.stderr
    assert "apt-get install qemu-user\n" in done.stderr


needs_qemu = pytest.mark.skipif(
    not shutil.which("qemu-x86_64"),
    reason="qemu-x86_64 is not installed (apt-get install qemu-user): "
    "nothing is shown about other processors",
)


@needs_qemu
def test_an_unknown_processor_is_refused(small: Project, temporary: Path) -> None:
    done = verify(small, temporary, "--cpu", "Nehalm")
    assert done.returncode == 2
    assert "does not run this Python as on a Nehalm" in done.stderr
    assert "qemu-x86_64 -cpu help lists them" in done.stderr


@needs_qemu
def test_the_stages_run_as_on_the_emulated_processor(
    small: Project, temporary: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.json"
    asked = {"PLANTED": "environment", "SEEN": str(seen)}
    done = verify(small, temporary, "--cpu", "Nehalem", OPENBLAS_CORETYPE="Haswell", **asked)
    assert done.returncode == 2
    assert "x86_64, as on a Nehalem" in done.stdout
    stage = json.loads(seen.read_text(encoding="utf-8"))
    assert stage["avx2"] is False
    # Set for the real processor: with it, import numpy would die on a Nehalem.
    assert "OPENBLAS_CORETYPE" not in stage["environment"]


@needs_qemu
@pytest.mark.slow
def test_another_processor_gives_the_same_bits(planted: Project, temporary: Path) -> None:
    done = verify(planted, temporary, "--cpu", "Nehalem")
    assert done.returncode == 0, done.stdout + done.stderr
