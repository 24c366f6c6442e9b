"""Runs git, and says of each failure what it is and what to do.

Every git command of the project is run by this file: without what the user's settings add
to his own commands, such as hooks.

The project may be a folder of a larger repository: all paths are relative to the folder
in which git runs.
"""

import io
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from core.pipeline.errors import PipelineError, SetupError, StorageError

# Variables that make git use another repository than the one of the folder. Git sets
# some of them for its hooks (`git rev-parse --local-env-vars` lists all).
REDIRECTIONS = (
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)

# Settings of users that run other programs, act on other repositories too, or change what
# git prints. An alias cannot replace a command of git.
PLAIN = {
    "color.ui": "false",
    "commit.gpgSign": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "diff.relative": "false",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "init.templateDir": "",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "push.followTags": "false",
    "push.gpgSign": "false",
    "push.recurseSubmodules": "no",
    "submodule.recurse": "false",
}
OPTIONS = (
    "--no-pager",
    *(word for name, value in PLAIN.items() for word in ("-c", f"{name}={value}")),
)
OTHER_PROGRAMS = ("GIT_EXTERNAL_DIFF", "GIT_TEMPLATE_DIR")  # variables that do the same


class _Cause(NamedTuple):
    """Why git failed."""

    pattern: str  # in what git prints
    what: str
    todo: str  # may name {lock}, {folder} and {command}
    kind: type[PipelineError] = SetupError


# The first that matches counts.
CAUSES = (
    _Cause(
        r"No space left on device|Disk quota exceeded|File too large",
        "the disk is full",
        "make room there and run it again",
        StorageError,
    ),
    _Cause(
        r"dubious ownership|is owned by someone else",
        "the repository belongs to another user, and git does not trust it",
        "git config --global --add safe.directory {folder}, if you trust its owner;\n"
        "or change the owner: chown",
    ),
    _Cause(
        r"not a git repository",
        "this folder is not in a git repository",
        "run it in a clone of the repository, not in an unpacked archive;\n"
        "a project without a history: git init, git add --all, git commit",
    ),
    _Cause(
        r"\.lock': File exists",
        "another git command is running in this repository, or was killed in it",
        "wait for it and run this again; if none is running: rm {lock}",
    ),
    _Cause(
        r"hook declined|aborted by hook|rejected by .*hook",
        "a hook of the remote refuses it",
        "read what the hook says; the owner of the remote can allow it",
    ),
    _Cause(
        r"Could not resolve host|Could not read from remote|unable to access|Connection refused"
        r"|Connection timed out|Authentication failed|could not read (Username|Password)"
        r"|Permission denied \(|does not appear to be a git repository",
        "the git remote cannot be reached",
        "make git fetch work, then run it again",
    ),
    _Cause(
        r"Permission denied|Read-only file system|insufficient permission",
        "the repository may not be read or written",
        "fix the permissions there and run it again",
    ),
    _Cause(
        r"unmerged|Unmerged|resolve your current index|needs merge",
        "a merge has not been completed",
        "resolve its conflicts and git add the files; or git merge --abort",
    ),
    _Cause(
        r"shallow update not allowed|shallow file has changed",
        "the clone is shallow: its history is truncated",
        "git fetch --unshallow",
    ),
    _Cause(
        r"is corrupt|is empty$|bad signature|index file smaller|[Bb]ad index|index version"
        r"|broken link|inflate|garbage at end|object corrupt|improper chunk|unable to unpack",
        "the repository is damaged",
        "git fsck names the damaged objects; a new clone has whole ones",
    ),
    _Cause(
        r"[Nn]ot a valid|[Bb]ad (revision|object)|unknown revision|ambiguous argument"
        r"|single revision|[Ii]nvalid object name|is not a tree|[Cc]ouldn't find remote ref"
        r"|not our ref|unable to read|missing (blob|tree|commit)|could not get object info"
        r"|does not exist in|exists on disk, but not in|[Cc]ould not (read|parse)|bad tree",
        "the repository lacks this revision",
        "git log --oneline lists commits; git fetch gets those of the remote",
    ),
    _Cause(
        r"tell me who you are|empty ident",
        "git does not know who you are",
        "git config --global user.name NAME and user.email ADDRESS",
    ),
    _Cause(
        r"unknown (option|switch)|^usage: git|is not a git command",
        "this git is too old",
        "install git 2.30 or newer",
    ),
    _Cause(r"xcrun: error|xcode-select", "git is not installed", "xcode-select --install"),
)
UNKNOWN = _Cause("", "", "git {command} in that folder shows the same")
LACKS_REVISION = "lacks this revision"


def undirected(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the variables that point git to another repository."""
    return {name: value for name, value in environment.items() if name not in REDIRECTIONS}


def run(
    *arguments: str, cwd: Path | None = None, stdin: bytes = b"", index: Path | None = None
) -> bytes:
    """Run git and return what it printed.

    Args:
        arguments: of git.
        cwd: a folder of the repository; None for the working directory.
        stdin: what git reads.
        index: the index file to use in place of the repository's own.

    Raises:
        SetupError: git is not installed, or it failed; says why, and what to do.
        StorageError: the disk is full.
    """
    done = _done(*arguments, cwd=cwd, stdin=stdin, index=index)
    if done.returncode != 0:
        raise _failure(arguments, done.stderr, cwd)
    return done.stdout


def _done(
    *arguments: str, cwd: Path | None = None, stdin: bytes = b"", index: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Run git and return how it ended; the arguments are those of `run`."""
    environment = undirected(os.environ)
    for name in OTHER_PROGRAMS:
        environment.pop(name, None)
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # reading never blocks a command of the user
    environment |= {"LC_ALL": "C", "LANGUAGE": ""}  # CAUSES know the English messages
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    command = ["git", *OPTIONS, *arguments]
    try:
        return subprocess.run(command, cwd=cwd, env=environment, input=stdin, capture_output=True)
    except (FileNotFoundError, NotADirectoryError):
        if cwd and not cwd.is_dir():
            raise SetupError("there is no such folder", where=str(cwd)) from None
        raise SetupError(
            "git is not installed", todo="install git, or add its folder to PATH"
        ) from None
    except PermissionError as error:
        raise SetupError("git cannot be started", found=str(error)) from None


def _failure(arguments: Sequence[str], printed: bytes, cwd: Path | None) -> PipelineError:
    """Return the error for a git command that failed, by what it printed."""
    text = printed.decode("utf-8", "replace").strip()
    cause = next((each for each in CAUSES if re.search(each.pattern, text, re.MULTILINE)), UNKNOWN)
    what, todo = cause.what, cause.todo
    if what.endswith(LACKS_REVISION) and is_shallow(cwd):
        what, todo = "the clone is shallow, and lacks this revision", "git fetch --unshallow"
    folder = str(cwd or Path.cwd())
    owned = re.search(r"(?:repository at|repository \()\s*'(.+?)'", text)
    lock = re.search(r"'([^']+\.lock)': File exists", text)
    return cause.kind(
        f"git {arguments[0]} failed{': ' if what else ''}{what}",
        found=text,
        where=folder,
        todo=todo.format(
            folder=owned[1] if owned else folder,
            lock=lock[1] if lock else "",
            command=" ".join(arguments),
        ),
    )


def line(
    *arguments: str, cwd: Path | None = None, stdin: bytes = b"", index: Path | None = None
) -> str:
    """Run git as `run` does and return the one line that it prints."""
    return run(*arguments, cwd=cwd, stdin=stdin, index=index).decode().strip()


def commit_of(revision: str) -> str:
    """Return the full hash of a branch, a tag or any other name of a commit.

    Raises:
        SetupError: there is no such commit.
    """
    found = commit_if_any(revision)
    if found is None:
        shallow = is_shallow()
        raise SetupError(
            f"there is no revision {revision}",
            expected="a branch, a tag or the hash of a commit",
            found="a shallow clone, whose history is truncated" if shallow else "",
            todo=f"git fetch {'--unshallow' if shallow else ''}".strip()
            + " gets those of the remote; git log --oneline lists commits",
        )
    return found


def exists(revision: str) -> bool:
    """Say whether there is such a commit."""
    return commit_if_any(revision) is not None


def head(cwd: Path) -> str | None:
    """Return the commit that is checked out; None if there is none yet."""
    return commit_if_any("HEAD", cwd)


def commit_if_any(revision: str, cwd: Path | None = None) -> str | None:
    """Return the full hash of a revision; None if there is none."""
    wanted = ("--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    done = _done("rev-parse", *wanted, cwd=cwd)
    if done.returncode > 1:
        raise _failure(("rev-parse", *wanted), done.stderr, cwd)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def merge_base(one: str, other: str) -> str | None:
    """Return the common ancestor of two branches, or None if the history has none."""
    done = _done("merge-base", one, other)
    if done.returncode > 1 and not is_shallow():
        raise _failure(("merge-base", one, other), done.stderr, None)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def is_shallow(cwd: Path | None = None) -> bool:
    """Say whether there is a repository whose history is truncated, as in a clone with --depth."""
    return _done("rev-parse", "--is-shallow-repository", cwd=cwd).stdout.strip() == b"true"


def files_of(commit: str) -> set[str]:
    """Return the paths of all files of this folder in a commit."""
    return set(filter(None, run("ls-tree", "-r", "-z", "--name-only", commit).decode().split("\0")))


def content(commit: str, path: str) -> bytes:
    """Return the content of a file in a commit that has it."""
    return run("cat-file", "blob", f"{commit}:./{path}")


def contents(names: Sequence[str], cwd: Path | None = None) -> dict[str, tuple[str, bytes]]:
    """Return the objects with these names, using one process for all.

    Args:
        names: `COMMIT:./PATH` for a file, a reference for its commit; no line breaks.
        cwd: a folder of the repository; None for the working directory.

    Returns:
        For each name its hash and content; nothing for one that names no object.
    """
    asked = "".join(f"{name}\n" for name in names).encode()
    answer = io.BytesIO(run("cat-file", "--batch", "--buffer", cwd=cwd, stdin=asked))
    found = {}
    for name in names:
        header = answer.readline().decode()  # HASH TYPE SIZE
        if header != f"{name} missing\n":
            sha, _, size = header.split()
            found[name] = (sha, answer.read(int(size)))
            answer.readline()
    return found


def uncommitted() -> list[str]:
    """Return the paths of this folder that differ from HEAD, untracked files among them."""
    below = prefix()
    listed = run("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    entries = listed.decode().split("\0")
    return [entry[3:].removeprefix(below) for entry in entries if entry]


def prefix(cwd: Path | None = None) -> str:
    """Return the path of a folder in its repository, as `ml/`; empty for the root."""
    return line("rev-parse", "--show-prefix", cwd=cwd)


def check_out(source: Path, target: Path, commit: str) -> Path:
    """Create a repository that shares the objects of another, and check out a commit.

    A clone would lack commits on no branch if its source is shallow: `--shared` does
    nothing there.

    Args:
        source: a folder of the other repository.
        target: an empty or new folder.
        commit: its hash.

    Returns:
        The folder in `target` that corresponds to `source`.
    """
    target.mkdir(parents=True, exist_ok=True)
    run("init", "--quiet", cwd=target)
    objects, shallow = (
        source.absolute() / line("rev-parse", "--git-path", name, cwd=source)
        for name in ("objects", "shallow")
    )
    (target / ".git/objects/info").mkdir(exist_ok=True)
    (target / ".git/objects/info/alternates").write_text(f"{objects.resolve()}\n")
    if shallow.exists():
        shutil.copy(shallow, target / ".git/shallow")
    run("checkout", "--quiet", "--detach", commit, cwd=target)
    return target / prefix(source)
