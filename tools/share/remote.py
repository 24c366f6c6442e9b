"""Sets up the remote that a team shares, after testing it.

    python -m tools.share.remote s3://bucket/team endpointurl=https://s3.example.org
    python -m tools.share.remote ssh://server/srv/team
    python -m tools.share.remote /mnt/team
    python -m tools.share.remote             tests the current one

Writes: .dvc/config, which is in git: the address, DVC's options, and `verify`, so that DVC
        compares every file that it pulls with its hash
        .dvc/config.local, which is not in git: keys, passwords and personal settings

Nothing is written unless a test file could be written there, read and removed.
"""

import argparse
import difflib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.pipeline.errors import ParamsError, SetupError
from core.pipeline.runner import run
from tools.share.storage import SCHEMES, Storage

NAME = "team"
CONFIG = Path(".dvc/config")
LOCAL = Path(".dvc/config.local")
SECRET = {
    *("access_key_id", "secret_access_key", "session_token", "sse_customer_key"),  # S3
    *("password", "passphrase"),  # SSH
}
# Settings that depend on the person or the machine.
PERSONAL = {"credentialpath", "configpath", "profile", "keyfile", "user"}
WIDTH = 68  # of the text of an error, beside its labels
# Set here; the last two would store objects without their hashes as names.
OURS = {"url", "verify", "worktree", "version_aware"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("url", nargs="?", help="s3://bucket/path, ssh://server/path or /path")
    parser.add_argument(
        "options", nargs="*", metavar="OPTION=VALUE", help="of DVC, for this kind of remote"
    )


def main(url: str | None, options: list[str]) -> None:
    """Test the remote, write the settings and say what to do next.

    Raises:
        ParamsError: the address or an option is invalid.
        PipelineError: the remote cannot be reached, read or written. Nothing is changed.
    """
    if url is None:
        storage = opened()
        storage.check_access()
        print(f"{storage.url} can be reached, read and written")
        return
    check_url(url)
    given = parse(options, urlsplit(url).scheme)
    settings = {"url": url, "verify": True, **given}
    Storage(settings).check_access()
    personal = {name: given.pop(name) for name in list(given) if name in SECRET | PERSONAL}
    write({"url": url, **given, "verify": True}, personal)
    print(f"{url} can be reached, read and written")
    print(f"{CONFIG} has its settings, for everyone{_listed(given)}")
    if personal:
        print(f"{LOCAL} has your personal settings and stays out of git{_listed(personal)}")
    print(f"next  git commit -m 'The remote of the team' {CONFIG} && git push")
    print("      make share")


def check_url(url: str) -> None:
    """Refuse an address that is invalid or cannot be shared.

    Raises:
        ParamsError: it is not s3://bucket/…, ssh://server/… or an absolute path of a
            folder outside of the repository, or it contains a password.
    """
    parts = urlsplit(url)
    expected = "s3://bucket/path, ssh://server/path or /path/of/a/folder"
    if "://" not in url and not url.startswith("/"):
        raise ParamsError(
            "the path of a remote has to be absolute: a relative one differs from clone to clone",
            expected=expected,
            found=url,
        )
    if parts.scheme not in SCHEMES:
        close = difflib.get_close_matches(parts.scheme, SCHEMES, 1)
        raise ParamsError(
            f"remotes on {parts.scheme}:// are not supported",
            expected=expected,
            found=url,
            todo=f"did you mean {close[0]}://?" if close else "",
        )
    if parts.scheme and (not parts.hostname or (parts.scheme == "ssh" and len(parts.path) < 2)):
        raise ParamsError("the address of the remote is incomplete", expected=expected, found=url)
    if parts.password:
        raise ParamsError(
            "a password in the address would be in git, where everyone can read it",
            found=url.replace(f":{parts.password}@", ":…@"),
            where=str(CONFIG),
            todo="give it as password=…: that stays in .dvc/config.local",
        )
    if not parts.scheme and Path(url).resolve().is_relative_to(Path.cwd().resolve()):
        raise ParamsError(
            "the folder is in the repository, where nobody else can reach it",
            found=url,
            todo="choose one on a disk that the team shares",
        )


def parse(options: Sequence[str], scheme: str) -> dict[str, Any]:
    """Read OPTION=VALUE by DVC's schema for this kind of remote.

    Raises:
        ParamsError: there is no such option, or its value is invalid.
    """
    from dvc.config_schema import DEPRECATED, REMOTE_SCHEMAS
    from voluptuous import Invalid, Schema

    schema = REMOTE_SCHEMAS[scheme]
    in_use = {str(each) for each in schema if getattr(each, "description", "") != DEPRECATED}
    known = sorted(in_use - OURS)
    given: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not value or name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise ParamsError(
                f"{option} is not an option of a remote on {SCHEMES[scheme]}"
                if name not in SECRET
                else f"{name} needs a value",
                expected=textwrap.fill(", ".join(known), WIDTH),
                todo=f"did you mean {close[0]}=…?" if close else "",
            )
        given[name] = value
    try:
        Schema(schema)({"url": "", **given})
    except Invalid as error:
        raise ParamsError(
            f"the value of {'.'.join(map(str, error.path))} is invalid",
            expected=str(error.msg).removeprefix("expected "),
            found=given[str(error.path[0])],
        ) from None
    return given


def write(shared: Mapping[str, Any], personal: Mapping[str, Any]) -> None:
    """Write the remote as the default one, replacing one of the same name."""
    from tools.repository.dvc_config import Utf8Config

    config = Utf8Config(CONFIG.parent)
    if personal or LOCAL.exists():
        with config.edit("local", validate=False) as settings:
            settings["remote"].pop(NAME, None)
            settings["core"].pop("remote", None)
            if personal:
                settings["remote"][NAME] = dict(personal)
        LOCAL.chmod(0o600)
    with config.edit("repo", validate=False) as settings:
        settings["core"]["remote"] = NAME
        settings["remote"][NAME] = dict(shared)


def opened() -> Storage:
    """Reach the default remote of this repository.

    Raises:
        SetupError: there is none, or its settings are invalid.
        PipelineError: as `Storage`.
    """
    from dvc.config import Config, ConfigError

    try:
        config = Config(str(CONFIG.parent.absolute()))
        name = config["core"].get("remote", "")
        settings = config["remote"].get(name)
    except ConfigError as error:
        raise SetupError(
            "DVC's settings cannot be read", found=str(error), where=f"{CONFIG}, {LOCAL}"
        ) from None
    if not settings:
        raise SetupError(
            "this repository has no remote to share with",
            where=str(CONFIG),
            todo="make remote URL=s3://bucket/team, URL=ssh://server/path or URL=/path",
        )
    return Storage(settings)


def _listed(options: Mapping[str, Any]) -> str:
    return f": {', '.join(options)}" if options else ""


if __name__ == "__main__":
    run(main, add_arguments)
