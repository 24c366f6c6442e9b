"""Runs git, and reports a failure in a few lines.

Every git command of the project is run by this file: without what the user's settings add
to his own commands, such as hooks.
"""

import io
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.pipeline.errors import SetupError

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
        SetupError: git is not installed, or it failed; says why.
    """
    environment = undirected(os.environ)
    for name in OTHER_PROGRAMS:
        environment.pop(name, None)
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # reading never blocks a command of the user
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    try:
        done = subprocess.run(
            ["git", *OPTIONS, *arguments],
            cwd=cwd,
            env=environment,
            input=stdin,
            capture_output=True,
        )
    except FileNotFoundError:
        raise SetupError("git is not installed", todo="install git") from None
    if done.returncode != 0:
        raise SetupError(
            f"git {arguments[0]} failed",
            found=done.stderr.decode("utf-8", "replace").strip(),
            where=str(cwd or Path.cwd()),
            todo="run it in a clone of the repository, not in an unpacked archive",
        )
    return done.stdout


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
    run("rev-parse", "--git-dir")  # a clear error outside of a repository
    try:
        wanted = ("--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        return line("rev-parse", *wanted)
    except SetupError:
        raise SetupError(
            f"there is no revision {revision}",
            expected="a branch, a tag or the hash of a commit",
            todo="git log --oneline lists commits; git fetch gets those of the remote",
        ) from None


def exists(revision: str) -> bool:
    """Say whether there is such a commit."""
    try:
        run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except SetupError:
        return False
    return True


def merge_base(one: str, other: str) -> str | None:
    """Return the common ancestor of two branches, or None if the history has none."""
    try:
        return line("merge-base", one, other)
    except SetupError:
        return None


def is_shallow() -> bool:
    """Say whether the history is truncated, as in a clone with --depth."""
    return line("rev-parse", "--is-shallow-repository") == "true"


def files_of(commit: str) -> set[str]:
    """Return the paths of all files in a commit."""
    return set(filter(None, run("ls-tree", "-r", "-z", "--name-only", commit).decode().split("\0")))


def content(commit: str, path: str) -> bytes:
    """Return the content of a file in a commit that has it."""
    return run("cat-file", "blob", f"{commit}:{path}")


def contents(names: Sequence[str], cwd: Path | None = None) -> dict[str, tuple[str, bytes]]:
    """Return the objects with these names, using one process for all.

    Args:
        names: `COMMIT:PATH` for a file, a reference for its commit; no line breaks.
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
    """Return the paths that differ from HEAD, untracked files among them."""
    listed = run("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames").decode()
    return [entry[3:] for entry in listed.split("\0") if entry]
