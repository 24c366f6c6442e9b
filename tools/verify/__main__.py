"""Rebuilds a revision from nothing and compares every byte with the committed one.

    python -m tools.verify                  the last commit
    python -m tools.verify v1.0             any other revision
    python -m tools.verify --hostile        in an environment that must not matter
    python -m tools.verify --cpu Nehalem    as on another processor

It compares the hashes in dvc.lock, of all inputs and outputs of the stages, and the files
in metrics/. Exits with 0 if all are the same; 1 if some differ, naming the first stage,
the differences in its files, and the likely cause; 2 if it could not run.
"""

import argparse
import hashlib
import importlib.util
import io
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from core.pipeline.errors import PipelineError, SetupError
from core.pipeline.runner import check_source
from tools.repository import dvc_lock, git
from tools.repository.dvc_lock import Difference, Stage
from tools.verify import causes, comparison, emulation, rebuild

LOCK = "dvc.lock"
PIPELINE = "dvc.yaml"
METRICS = "metrics"
CONFIGURATION = {LOCK, PIPELINE, "params.yaml", ".dvcignore"}  # what DVC itself reads
SAME, DIFFERENT, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130
MOST_PATHS = 10


class Committed:
    """The expected results of a commit.

    Args:
        commit: its full hash.
    """

    def __init__(self, commit: str) -> None:
        self.commit = commit
        self.title = git.run("log", "-1", "--format=%h %s", commit).decode().strip()
        self.files = git.files_of(commit)
        if LOCK not in self.files:
            raise SetupError(
                f"the revision has no {LOCK}, so there is nothing to compare with",
                found=self.title,
                todo=f"dvc repro and commit {LOCK}; or name a revision that has one",
            )
        self.stages = dvc_lock.read(
            git.content(commit, LOCK),
            git.content(commit, PIPELINE) if PIPELINE in self.files else None,
            f"{LOCK} of {self.title}",
        )

    def text(self, path: str) -> str:
        """Return a file of the commit, empty if it has none."""
        return git.content(self.commit, path).decode("utf-8") if path in self.files else ""

    def in_metrics(self) -> set[str]:
        """Return the files in metrics/."""
        return {path for path in self.files if dvc_lock.within(path, METRICS)}

    def made(self) -> set[str]:
        """Return the files of the commit that a rebuild has to create."""
        outputs = {path for stage in self.stages for path in stage.outputs}
        return {LOCK} | self.in_metrics() | (self.files & outputs)

    def compared(self) -> set[str]:
        """Return all paths that are compared."""
        locked = {path for stage in self.stages for path in (*stage.inputs, *stage.outputs)}
        return locked | self.in_metrics()

    def bytes_of(self, path: str, md5: str) -> bytes | None:
        """Return an output from git, DVC's cache or the working tree, or None."""
        if path in self.files:
            return git.content(self.commit, path)
        asked = [sys.executable, "-m", "dvc", "cache", "dir"]
        cache = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        for candidate in (Path(cache, "files/md5", md5[:2], md5[2:]), Path(path)):
            if candidate.is_file():
                content = candidate.read_bytes()
                if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                    return content
        return None


def verify(arguments: argparse.Namespace) -> int:
    """Rebuild, compare, report; return the exit status."""
    if importlib.util.find_spec("dvc") is None:
        raise SetupError(
            "this Python has no DVC",
            found=sys.executable,
            todo="make verify; or activate the environment first: . .venv/bin/activate",
        )
    committed = Committed(git.commit_of(arguments.revision or "HEAD"))
    if arguments.revision is None:
        refuse_uncommitted(committed)
    emulated = emulation.command(arguments.cpu) if arguments.cpu else []

    top = Path(tempfile.mkdtemp(prefix="samebits-verify-"))
    folder = top / rebuild.HOSTILE_FOLDER if arguments.hostile else top
    try:
        print(f"Rebuilding {committed.title}")
        print(f"  with {environment(arguments)}")
        if arguments.keep:
            print(f"  in {folder}, which is kept")
        started = time.monotonic()
        clone = rebuild.prepare(folder, committed.commit, without=committed.made())
        rebuild.rebuild(folder, clone, emulated=emulated, hostile=arguments.hostile)
        seconds = time.monotonic() - started

        rebuilt = dvc_lock.read(
            (clone / LOCK).read_bytes(), (clone / PIPELINE).read_bytes(), f"{LOCK} of the rebuild"
        )
        changed = {path for path in committed.made() - {LOCK} if differs(committed, path, clone)}
        differences = dvc_lock.compare(committed.stages, rebuilt, changed=changed)
        files = len(committed.compared())
        if not differences and not changed:
            print(f"Same: all {files} files have the committed bytes ({seconds:.0f} s).")
            return SAME
        paths = changed.union(*(d.inputs + d.outputs for d in differences))
        print(f"Different: {len(paths)} of {files} files ({seconds:.0f} s).")
        explain(committed, rebuilt, differences, clone)
        for path in leftovers(committed, changed):
            print(f"\n{path} is committed, and no stage writes it")
        print("\nLikely cause:")
        for cause in likely_causes(committed, rebuilt, differences, changed, arguments):
            print(f"  {cause}")
        return DIFFERENT
    finally:
        if not arguments.keep:
            shutil.rmtree(top)


def refuse_uncommitted(committed: Committed) -> None:
    """Refuse to verify HEAD while inputs of a rebuild have uncommitted changes.

    Raises:
        SetupError: names the changed files.
    """
    matter = CONFIGURATION | committed.compared()
    changed = [
        path
        for path in git.uncommitted()
        if dvc_lock.within(path, METRICS) or any(dvc_lock.within(path, each) for each in matter)
    ]
    if changed:
        raise SetupError(
            "uncommitted changes: the rebuild would differ from the working tree",
            found=shortened(changed),
            todo="dvc repro and commit them, or git stash; "
            "or verify the last commit without them: python -m tools.verify HEAD",
        )


def environment(arguments: argparse.Namespace) -> str:
    """Describe what the rebuild runs on."""
    parts = [
        f"Python {platform.python_version()}",
        f"torch {metadata.version('torch')}",
        f"{platform.machine()}, as on a {arguments.cpu}" if arguments.cpu else platform.machine(),
    ]
    return ", ".join(parts + ["hostile environment"] * arguments.hostile)


def differs(committed: Committed, path: str, clone: Path) -> bool:
    """Say whether a file of the commit is different or missing in the rebuild."""
    made = clone / path
    return not made.is_file() or made.read_bytes() != git.content(committed.commit, path)


def leftovers(committed: Committed, changed: set[str]) -> list[str]:
    """Return the changed files that no stage writes."""
    return sorted(changed.difference(*(stage.outputs for stage in committed.stages)))


def likely_causes(
    committed: Committed,
    rebuilt: list[Stage],
    differences: list[Difference],
    changed: set[str],
    arguments: argparse.Namespace,
) -> list[str]:
    """Return why the rebuild differs: errors of the commit, or else known causes.

    Args:
        committed: the commit.
        rebuilt: the stages of the rebuild's lock.
        differences: between the two.
        changed: the files of the commit that differ in the rebuild.
        arguments: of the command line.
    """
    old = {path: md5 for stage in committed.stages for path, md5 in stage.outputs.items()}
    new = {path: md5 for stage in rebuilt for path, md5 in stage.outputs.items()}
    found = []
    names = {name for d in differences for name in (*d.settings, *d.inputs)}
    if stale := sorted(names - old.keys()):
        found.append(f"{LOCK} is older than the change of {shortened(stale)}; dvc repro")
    edited = sorted(path for path in changed & old.keys() if old[path] == new.get(path))
    if edited:
        verb = "was" if len(edited) == 1 else "were"
        found.append(f"{shortened(edited)} {verb} changed after {LOCK} was written; dvc repro")
    for path in leftovers(committed, changed):
        found.append(f"{path} is a leftover; git rm {path}")
    if not found or any(d.began and set(d.outputs) - set(edited) for d in differences):
        found += causes.likely(
            committed.text("requirements.lock"),
            committed.text("params.yaml"),
            cpu=arguments.cpu,
            hostile=arguments.hostile,
        )
    return found


def explain(
    committed: Committed, rebuilt: list[Stage], differences: list[Difference], clone: Path
) -> None:
    """Print the first stage that differs, its differences, and the other stages."""
    began = [difference for difference in differences if difference.began]
    if began:
        first = began[0]
        print(f"\nThe first difference is in the stage {first.stage}: same inputs, other outputs")
        old = {stage.name: stage for stage in committed.stages}[first.stage].outputs
        new = {stage.name: stage for stage in rebuilt}[first.stage].outputs
        for path in first.outputs:
            print(f"  {path}")
            for line in difference_of(committed, path, old.get(path), new.get(path), clone):
                print(f"    {line}")
    also = [difference.stage for difference in began[1:]]
    if also:
        print(f"\nSame inputs and other outputs, too: {', '.join(also)}")
    later = [difference.stage for difference in differences if not difference.began]
    if later:
        print(f"\nOther inputs or settings: {', '.join(later)}")


def difference_of(
    committed: Committed, path: str, old: str | None, new: str | None, clone: Path
) -> list[str]:
    """Describe in a few lines what differs in an output of a stage.

    Args:
        committed: the commit.
        path: of the output.
        old: its hash in the committed dvc.lock, or None.
        new: its hash in that of the rebuild, or None.
        clone: the rebuild.
    """
    hashes = f"{old or 'none'} → {new or 'none'}"
    if old is None or new is None or not (clone / path).is_file():
        return [f"md5 {hashes}"]
    before = committed.bytes_of(path, old)
    if before is None:
        return [
            f"md5 {hashes}",
            "the committed file is missing, so only its hash is known: "
            f"dvc pull {path} fetches it, if it was pushed",
        ]
    return comparison.differences(path, before, (clone / path).read_bytes())


def shortened(names: list[str]) -> str:
    """Join the first few names, and count the others."""
    more = len(names) - MOST_PATHS
    return ", ".join(names[:MOST_PATHS]) + (f" and {more} more" if more > 0 else "")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("revision", nargs="?", help="a commit, a branch or a tag; default: HEAD")
    parser.add_argument(
        "--hostile",
        action="store_true",
        help="rebuild under another time zone, language, umask, hash seed, number of threads, "
        "home folder, path and file order",
    )
    parser.add_argument(
        "--cpu",
        metavar="MODEL",
        help="run the stages under emulation of another x86-64 processor: Nehalem (SSE4.2), "
        "Haswell (AVX2), max, or any that `qemu-x86_64 -cpu help` lists",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder of the rebuild")
    return parser.parse_args()


def main() -> NoReturn:
    """Run the command; an error that a user can fix exits with 2 and a few lines."""
    arguments = parse_arguments()
    if isinstance(sys.stdout, io.TextIOWrapper):  # unless standard output is closed
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # runs the clean-up
    try:
        check_source(Path.cwd())
        sys.exit(verify(arguments))
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(CANNOT_RUN)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
