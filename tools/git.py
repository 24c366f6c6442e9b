"""Asks git about the repository in the working directory."""

import os
import subprocess
from pathlib import Path

from core.errors import SetupError

# What git sets while it runs a hook: it would lead to another repository
# (`git rev-parse --local-env-vars` lists them all).
OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


def environment() -> dict[str, str]:
    """Return this process's environment without what a hook of git adds."""
    return {key: value for key, value in os.environ.items() if key not in OF_A_HOOK}


def git(*arguments: str, folder: Path | None = None) -> bytes:
    """Run git and return what it printed.

    Raises:
        SetupError: git is not installed, or it failed; says why.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment(), capture_output=True, check=False
        )
    except FileNotFoundError:
        raise SetupError("git is not installed", todo="install git") from None
    if done.returncode != 0:
        raise SetupError(
            f"git {arguments[0]} failed",
            found=done.stderr.decode("utf-8", "replace").strip(),
            todo="run it in a clone of the repository, not in an unpacked archive",
        )
    return done.stdout


def commit_of(revision: str) -> str:
    """Return the full hash of a branch, a tag or any other name of a commit.

    Raises:
        SetupError: there is no such commit.
    """
    git("rev-parse", "--git-dir")  # says so where there is no repository
    try:
        wanted = ("--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        return git("rev-parse", *wanted).decode().strip()
    except SetupError:
        raise SetupError(
            f"there is no revision {revision}",
            expected="a branch, a tag or the hash of a commit",
            todo="git log --oneline lists commits; git fetch gets those that are elsewhere",
        ) from None


def files_of(commit: str) -> set[str]:
    """Return the paths of all files in a commit."""
    return set(filter(None, git("ls-tree", "-r", "-z", "--name-only", commit).decode().split("\0")))


def content(commit: str, path: str) -> bytes:
    """Return a file as it stands in a commit that has it."""
    return git("cat-file", "blob", f"{commit}:{path}")


def uncommitted() -> list[str]:
    """Return the paths that differ from HEAD, untracked files among them."""
    listed = git("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames").decode()
    return [entry[3:] for entry in listed.split("\0") if entry]
