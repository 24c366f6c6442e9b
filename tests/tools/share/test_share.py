"""Two people on two clones: neither recomputes results of the other."""

import os
import pty
import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.faults import environment, wait_for
from tests.support.project import Project
from tests.tools.share.servers import (
    KEYS,
    S3,
    SSH,
    line_to,
    needs_s3,
    needs_sshd,
    s3_server,
    ssh_server,
)

COMPARE = ("python", "-m", "tools.compare", "train.lr=0.01,1e38")
SHARE = ("python", "-m", "tools.share")
PULL = ("python", "-m", "tools.share.pull")
KINDS = ["folder", pytest.param("s3", marks=needs_s3), pytest.param("ssh", marks=needs_sshd)]
MODEL = "models/model.pt"


class Team(NamedTuple):
    """Ana, who computes, and what she and others share by."""

    ana: Project
    remote: "Folder | S3 | SSH"
    variables: dict[str, str]  # of the environment of everybody

    def clone(self, name: str) -> Project:
        """Somebody else's fresh clone."""
        folder = self.ana.folder.parent / name
        origin = self.ana.folder.parent / "origin.git"
        subprocess.run(["git", "clone", "--quiet", str(origin), str(folder)], check=True)
        return identified(Project(folder))

    def must(self, who: Project, *command: str) -> str:
        return who.must(*command, **self.variables)

    def run(self, who: Project, *command: str) -> subprocess.CompletedProcess[str]:
        return who.run(*command, **self.variables)


class Folder:
    """A folder that all see."""

    def __init__(self, store: Path) -> None:
        store.mkdir()
        self.url = str(store)
        self.store = store


def identified(project: Project) -> Project:
    project.must("git", "config", "user.name", "Test")
    project.must("git", "config", "user.email", "test@example.org")
    return project


@contextmanager
def team(project: Project, folder: Path, kind: str) -> Iterator[Team]:
    """Give a project a git remote and one of DVC, of the kind that is named."""
    ana = project.copy(folder / "ana")
    origin = folder / "origin.git"
    ana.must("git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    ana.must("git", "remote", "add", "origin", str(origin))
    at = folder / "remote"
    options: list[str] = []
    if kind == "folder":
        yield _joined(Team(ana, Folder(at), {}), options)
        return
    at.mkdir()
    if kind == "s3":
        with s3_server(at) as s3:
            options = [f"endpointurl={s3.endpoint}"]
            yield _joined(Team(ana, s3, KEYS), options)
        return
    with ssh_server(at) as sshd:
        yield _joined(Team(ana, sshd, {"HOME": str(sshd.home)}), options)


def _joined(team: Team, options: list[str]) -> Team:
    team.must(team.ana, "python", "-m", "tools.share.remote", team.remote.url, *options)
    team.ana.commit("The remote of the team")
    return team


@pytest.fixture
def folder_team(built: Project, tmp_path: Path) -> Iterator[Team]:
    with team(built, tmp_path, "folder") as made:
        yield made


def flip(team: Team, path: str) -> str:
    """Flip a byte of an output on the remote, and return the MD5 that it should have."""
    lock = yaml.safe_load(team.ana.read("dvc.lock"))
    outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
    md5: str = next(out["md5"] for out in outs if out["path"] == path)
    name = f"files/md5/{md5[:2]}/{md5[2:]}"
    if isinstance(team.remote, S3):
        content = team.remote.read(f"samebits/{name}")
        team.remote.write(f"samebits/{name}", flipped(content))
    else:
        stored = team.remote.store / name
        content = stored.read_bytes()
        stored.chmod(0o644)
        stored.write_bytes(flipped(content))
        stored.chmod(0o444)
    return md5


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.slow
def test_a_fresh_clone_gets_a_revision_and_runs_no_stage(folder_team: Team) -> None:
    team, ana = folder_team, folder_team.ana
    output = team.must(ana, *SHARE)
    assert re.search(r"^data    sent 2\d files \([\d.]+kB\), 0 there already$", output, re.M), (
        output
    )
    assert "next    git push: origin lacks this commit" in output
    ana.must("git", "push", "--quiet", "origin", "main")
    (ana.folder / "notes.txt").write_text("later")
    output = team.must(ana, *SHARE)
    assert re.search(r"^data    sent 0 files, 2\d there already$", output, re.M), output
    assert "but     uncommitted files are not shared: notes.txt" in output
    assert "git push" not in output

    ben = team.clone("ben")
    output = team.must(ben, *PULL)
    assert re.search(r"^data    got 1\d files \([\d.]+kB\), \d+ here already$", output, re.M), (
        output
    )
    # The metrics too are in the cache, for DVC to restore stages with.
    (ben.folder / "dvc.lock").unlink()
    done = team.must(ben, "dvc", "repro")
    assert "Running stage" not in done
    assert done.count("is cached - skipping run") == 5
    assert ben.must("git", "status", "--porcelain") == ""


def test_what_does_not_belong_together_is_not_shared(folder_team: Team) -> None:
    team, ana = folder_team, folder_team.ana
    model = ana.folder / MODEL
    cached = next(path for path in cache(ana) if path.read_bytes() == model.read_bytes())
    whole = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(flipped(whole))
    failed = team.run(ana, *SHARE)
    assert failed.returncode == 1
    assert "1 file in DVC's cache is damaged" in failed.stderr
    assert MODEL in failed.stderr
    cached.unlink()
    failed = team.run(ana, *SHARE)
    assert failed.returncode == 1
    assert "1 file of this revision is missing here" in failed.stderr
    assert not list(Path(team.remote.url).rglob("*")), "something was sent"
    cached.write_bytes(whole)

    ana.replace("params.yaml", "  lr: 0.1", "  lr: 0.2")
    ana.commit("Another rate, and no dvc repro")
    failed = team.run(ana, *SHARE)
    assert failed.returncode == 1
    assert "dvc.lock does not belong to the code of this commit" in failed.stderr
    assert "train.lr 0.1 → 0.2" in failed.stderr


def cache(project: Project) -> list[Path]:
    return [path for path in (project.folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_one_computed_another_compares_without_computing(
    built: Project, tmp_path: Path, kind: str
) -> None:
    with team(built, tmp_path, kind) as shared:
        ana = shared.ana
        ana.must("git", "push", "--quiet", "origin", "main")
        shared.must(ana, *COMPARE)
        output = shared.must(ana, *SHARE)
        assert "runs    2 experiments sent to origin, 0 there already" in output

        cat = shared.clone("cat")  # without our commands
        shared.must(cat, "dvc", "pull")
        assert (cat.folder / MODEL).read_bytes() == (ana.folder / MODEL).read_bytes()

        ben = shared.clone("ben")
        output = shared.must(ben, *PULL)
        assert "runs    2 experiments got from origin, 0 here already" in output
        assert "Running stage" not in shared.must(ben, "dvc", "repro")
        output = shared.must(ben, *COMPARE)
        assert output.startswith("2 experiments, 2 of them ran before\n"), output
        for page in ("reports/compare.html", "reports/compare.md"):
            assert ben.read(page) == ana.read(page)
        assert "lr-0.01" in shared.must(ben, "dvc", "exp", "show", "--csv")
        done = shared.must(ben, "dvc", "exp", "run", "--temp", "-n", "again", "-S", "train.lr=0.01")
        assert "Running stage" not in done
        assert "Stage 'train' is cached - skipping run" in done
        shared.must(ben, "dvc", "exp", "apply", "lr-0.01")
        assert "up to date" in shared.must(ben, "dvc", "status")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_on_a_remote_is_noticed_named_and_repaired(
    built: Project, tmp_path: Path, kind: str
) -> None:
    with team(built, tmp_path, kind) as shared:
        ana = shared.ana
        ana.must("git", "push", "--quiet", "origin", "main")
        shared.must(ana, *SHARE)
        md5 = flip(shared, MODEL)

        ben = shared.clone("ben")
        failed = shared.run(ben, *PULL)
        assert failed.returncode == 1
        assert "1 file of this commit is damaged on the remote" in failed.stderr
        assert f"{MODEL} of this revision" in failed.stderr
        assert f"object {md5}: damaged" in failed.stderr
        assert not (ben.folder / MODEL).exists()
        assert all(path.name != md5[2:] for path in cache(ben))
        assert (ben.folder / "data/raw/train_images.npy").exists()

        output = shared.must(ana, *SHARE, "--verify")
        assert f"fixed   {MODEL}, which was damaged there" in output
        shared.must(ben, *PULL)
        assert (ben.folder / MODEL).read_bytes() == (ana.folder / MODEL).read_bytes()

        flip(shared, MODEL)  # and now nobody has it
        cat = shared.clone("cat")
        assert shared.run(cat, *PULL).returncode == 1
        done = shared.must(cat, "dvc", "repro")
        assert re.findall(r"Running stage '(\w+)'", done) == ["train"]
        assert cat.must("git", "status", "--porcelain") == ""
        assert "fixed" in shared.must(cat, *SHARE, "--verify")
        shared.must(shared.clone("dan"), *PULL)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_dvc_pull_by_itself_does_not_take_a_flipped_byte(
    built: Project, tmp_path: Path, kind: str
) -> None:
    with team(built, tmp_path, kind) as shared:
        shared.ana.must("git", "push", "--quiet", "origin", "main")
        shared.must(shared.ana, *SHARE)
        flip(shared, MODEL)
        ben = shared.clone("ben")
        failed = shared.run(ben, "dvc", "pull")
        assert failed.returncode != 0
        assert MODEL in failed.stderr
        assert not (ben.folder / MODEL).exists()


@pytest.mark.slow
@needs_sshd
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_sharing_over_a_slow_line_shows_progress_and_resumes_after_it_was_stopped(
    built: Project, tmp_path: Path, kill: signal.Signals
) -> None:
    with team(built, tmp_path, "ssh") as shared:
        ana, sshd = shared.ana, shared.remote
        assert isinstance(sshd, SSH)
        with line_to(sshd.port, bytes_per_second=100_000) as line:
            sshd.know(line.port)
            ana.replace(".dvc/config", sshd.url, sshd.url_by(line.port))
            shown, terminal = pty.openpty()
            termios.tcsetwinsize(terminal, (24, 80))
            process = subprocess.Popen(
                SHARE,
                cwd=ana.folder,
                env=environment(**shared.variables),
                stderr=terminal,
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
            wait_for(lambda: line.carried > 200_000 or process.poll() is not None, "some bytes")
            process.send_signal(kill)
            assert process.wait() == (130 if kill == signal.SIGINT else -kill)
            progress = os.read(shown, 100_000).decode()
            os.close(terminal)
            os.close(shown)
            assert "sending" in progress
            assert "B/s" in progress
        stored = [path for path in sshd.store.rglob("*") if path.is_file()]
        finals = [path for path in stored if not path.name.startswith(".")]
        assert all(md5sum(path) == path.parent.name + path.name for path in finals)
        if kill == signal.SIGINT:
            assert finals == stored, "something half-written"
        ana.must("git", "checkout", "--quiet", ".dvc/config")
        ana.must("git", "push", "--quiet", "origin", "main")
        output = shared.must(ana, *SHARE)
        assert f"{len(finals)} there already" in output
        shared.must(shared.clone("ben"), *PULL)


def md5sum(path: Path) -> str:
    return subprocess.run(
        ["md5sum", str(path)], check=True, capture_output=True, text=True
    ).stdout.split()[0]
