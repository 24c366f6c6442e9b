"""Shares the outputs of this commit and its experiments, so that nobody computes them again.

    python -m tools.share
    python -m tools.share --verify     checks the files on the remote, and repairs them

Sends the objects of dvc.lock, those of the experiments of this commit and their entries
of the run cache to the team's remote (tools/share/remote.py), and the experiments, diverged
ones too, to the git remote. It does not push commits. After `git clone`,
tools/share/pull.py gets everything.
"""

import argparse
import signal

from core.pipeline.errors import DataError
from core.pipeline.runner import run
from tools.experiments import outputs
from tools.repository import git
from tools.share import exchange, remote, send
from tools.share.messages import add_revision, amount, count_files, is_or_are, summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_revision(parser)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check the files on the remote, repair damaged ones",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace experiments that are different on the remote"
    )


def main(revision: str, verify: bool, force: bool, git_remote: str) -> None:
    """Send what is missing on the remote, and report it.

    Raises:
        DataError: dvc.lock does not belong to the code, or its outputs are missing.
        PipelineError: the remote or the git remote cannot be reached or written.
    """
    commit = git.commit_of(revision)
    send.check_lock(commit)
    storage = remote.opened()
    names = exchange.names_of(git_remote)
    cache = outputs.opened()
    runs = outputs.of_revision(commit)
    cache.complete(runs)

    wanted = {md5: path for each in runs for md5, path in cache.expanded(each.objects()).items()}
    found = storage.sizes([storage.object(md5) for md5 in wanted])
    sizes = {md5: found[name] for md5 in wanted if (name := storage.object(md5)) in found}
    existing, truncated = send.compare_sizes(cache, runs, sizes)
    damaged = set()
    if verify:
        sums = {storage.object(md5): md5 for md5 in existing}
        damaged = {sums[path] for path in storage.get(sums, {})}
        existing -= damaged
    here = {md5 for md5 in wanted.keys() - existing if cache.has(md5)}
    send.check_cache(cache, here, wanted)
    missing = wanted.keys() - existing - here
    send.check_revision(runs[0], cache.expanded(runs[0].objects()), missing, damaged)

    storage.send({storage.object(md5): cache.object(md5) for md5 in sorted(here)})
    entries = cache.entries(runs, existing | here)
    send.send_entries(storage, entries)
    exchanged = exchange.send(git_remote, names, commit, force=force)

    print(f"remote  {storage.url}")
    sizes_sent = [cache.object(md5).stat().st_size for md5 in here]
    print(f"data    sent {amount(sizes_sent)}, {len(existing)} there already")
    for kind, those in (("damaged", damaged & here), ("truncated", truncated & here)):
        for md5 in sorted(those):
            print(f"fixed   {wanted[md5]}, which was {kind} there")
    print(f"runs    {summary(exchanged, 'sent to', git_remote, 'there')}")
    notes = send.not_shared(runs, missing, exchanged, send.earlier(commit, names))
    for number, note in enumerate(notes):
        print(f"{'' if number else 'but':<8}{note}")
    for number, step in enumerate(send.steps(names, commit, git_remote)):
        print(f"{'' if number else 'next':<8}{step}")
    lost = sorted(wanted[md5] for md5 in (damaged | truncated) & missing)
    if lost:
        raise DataError(
            f"{count_files(len(lost))} {is_or_are(lost)} damaged there and missing here",
            found="\n".join(lost),
            todo="whoever has them repairs the remote: python -m tools.share --verify",
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
