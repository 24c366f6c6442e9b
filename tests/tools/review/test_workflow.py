"""Runs the steps of the review workflow here, on a repository with a branch."""

import json
import re
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.project import ROOT, Project

REVIEW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/review.yml").read_text())
STEPS: list[dict[str, Any]] = REVIEW["jobs"]["review"]["steps"]


@pytest.fixture(scope="module")
def origin(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project with its results on main, and two branches that change a parameter.

    `rebuilt` commits what its change makes of the results, `stale` does not.
    """
    project = built.copy(tmp_path_factory.mktemp("copy") / "origin")
    for branch in ("stale", "rebuilt"):
        project.must("git", "checkout", "--quiet", "-b", branch, "main")
        project.replace("params.yaml", "  lr: 0.1", "  lr: 0.00001")
        if branch == "rebuilt":
            project.must("dvc", "repro")
        project.commit(f"Learn next to nothing ({branch})")
    return project


def check_out(origin: Project, branch: str, folder: Path) -> Project:
    """Check out what actions/checkout does for a pull request: the merge, and no branch."""
    clone = Project(folder)
    origin.must("git", "clone", "--quiet", str(origin.folder), str(folder))
    clone.must("git", "config", "user.name", "Test")
    clone.must("git", "config", "user.email", "test@example.org")
    clone.must("git", "checkout", "--quiet", "--detach", "origin/main")
    clone.must("git", "merge", "--quiet", "--no-ff", f"origin/{branch}", "--message", "Merge")
    for name in clone.must("git", "branch", "--format=%(refname:short)").splitlines():
        if not name.startswith("("):
            clone.must("git", "branch", "--quiet", "-D", name)
    # The environment that the first step makes, with the packages of this one.
    venv.create(folder / ".venv", with_pip=False)
    library = next((folder / ".venv/lib").glob("python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (library / "these.pth").write_text("\n".join([*packages, *site.getsitepackages()]))
    shutil.copy(folder / "requirements.lock", folder / ".venv/requirements.lock")
    return clone


def run_steps(clone: Project, summary: Path) -> dict[str, int]:
    """Run each `run:` of the review in its order, as GitHub does, and return their statuses."""
    statuses: dict[str, int] = {}
    outcomes: dict[str, str] = {}
    failed = False
    for step in STEPS:
        if "run" not in step or failed:
            continue
        condition = step.get("if")
        if condition:
            match = re.fullmatch(r"steps\.(\w+)\.outcome == 'failure'", condition)
            assert match, condition
            if outcomes[match[1]] != "failure":
                continue
        done = clone.run("bash", "-e", "-c", step["run"], GITHUB_STEP_SUMMARY=str(summary))
        statuses[step["name"]] = done.returncode
        outcomes[step.get("id", "")] = "failure" if done.returncode else "success"
        failed = bool(done.returncode) and not step.get("continue-on-error")
    return statuses


@pytest.mark.slow
def test_a_branch_with_its_results_passes_and_is_reviewed(origin: Project, tmp_path: Path) -> None:
    clone = check_out(origin, "rebuilt", tmp_path / "clone")
    assert run_steps(clone, tmp_path / "summary.md") == {
        "Install the pinned packages": 0,
        "Check that dvc.lock belongs to the code": 0,
        "Rebuild": 0,
        "Review": 0,
        "Write the summary": 0,
        "Check that the rebuild gives the committed results": 0,
    }
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("**Worse: of these two models, the new one is right less often.**")
    assert "Before: `origin/main at " in summary
    assert "[!WARNING]" not in summary


@pytest.mark.slow
def test_a_branch_with_a_stale_lock_is_reviewed_and_fails(origin: Project, tmp_path: Path) -> None:
    clone = check_out(origin, "stale", tmp_path / "clone")
    assert run_steps(clone, tmp_path / "summary.md") == {
        "Install the pinned packages": 0,
        "Check that dvc.lock belongs to the code": 2,  # make's own status for a failed line
        "Rebuild": 0,
        "Review": 0,
        "Write the summary": 0,
        "Fail if dvc.lock was stale": 2,
    }
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("**Worse: of these two models, the new one is right less often.**")
    assert "Not committed: dvc.lock, metrics/calibration.csv" in summary


@pytest.mark.parametrize("known", [True, False], ids=["a second time", "the first time"])
def test_one_comment_is_kept_up_to_date(tmp_path: Path, known: bool) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to run the script of actions/github-script")
    script = REVIEW["jobs"]["comment"]["steps"][-1]["with"]["script"]
    (tmp_path / "review.md").write_text("**Better.**\n", encoding="utf-8")
    others = [
        {"id": 1, "user": {"login": "somebody"}, "body": "<!-- the review of the metrics -->"},
        {"id": 2, "user": {"login": "github-actions[bot]"}, "body": "Another bot's comment"},
        {"id": 3, "user": None, "body": None},
    ]
    ours = {
        "id": 4,
        "user": {"login": "github-actions[bot]"},
        "body": "**Worse.**\n\n<!-- the review of the metrics -->",
    }
    harness = f"""
        const comments = {json.dumps([*others, *([ours] if known else [])])};
        const context = {{ repo: {{ owner: "o", repo: "r" }}, issue: {{ number: 7 }} }};
        const note = (name) => async (sent) => console.log(JSON.stringify({{ name, ...sent }}));
        const issues = {{
          listComments: "listComments",
          updateComment: note("update"),
          createComment: note("create"),
        }};
        const paginate = async (list) => list === "listComments" ? comments : [];
        const github = {{ paginate, rest: {{ issues }} }};
        (async () => {{ {script} }})();
    """
    done = subprocess.run(
        [node, "--eval", harness], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    sent = json.loads(done.stdout)
    body = "**Better.**\n\n<!-- the review of the metrics -->"
    if known:
        assert sent == {"name": "update", "owner": "o", "repo": "r", "comment_id": 4, "body": body}
    else:
        assert sent == {
            "name": "create",
            "owner": "o",
            "repo": "r",
            "issue_number": 7,
            "body": body,
        }
