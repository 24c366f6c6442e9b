"""`make remote` writes settings that work: shared ones into git, personal ones elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.pipeline.errors import ParamsError, PipelineError, SetupError
from tests.tools.share.servers import S3, needs_s3, s3_server
from tools.share import remote

CONFIG = "[core]\n    analytics = false\n"
KEYS = ["access_key_id=testing", "secret_access_key=testing"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings of DVC, to work in."""
    folder = tmp_path / "repository"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text(CONFIG)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def settings(folder: Path) -> tuple[str, str]:
    """The settings in git, and those that are not."""
    local = folder / ".dvc/config.local"
    return (folder / ".dvc/config").read_text(), local.read_text() if local.exists() else ""


def test_a_folder_becomes_the_default_remote_and_what_is_pulled_is_verified(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    remote.main(str(store), ["shared=group"])
    assert settings(repository) == (
        f"{CONFIG}    remote = team\n['remote \"team\"']\n"
        f"    url = {store}\n    shared = group\n    verify = True\n",
        "",
    )
    assert list(store.iterdir()) == []
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{store} can be reached, read and written"
    assert printed[1] == ".dvc/config has its settings, for everyone: shared"


def test_a_folder_may_have_any_letters(repository: Path, tmp_path: Path) -> None:
    store = tmp_path / "gemeinsam für 組"
    store.mkdir()
    remote.main(str(store), [])
    assert (repository / ".dvc/config").read_text(encoding="utf-8") == (
        f"{CONFIG}    remote = team\n['remote \"team\"']\n    url = {store}\n    verify = True\n"
    )
    assert remote.opened().url == str(store)


@needs_s3
def test_keys_never_lie_in_git_and_those_of_an_earlier_remote_go(
    repository: Path, tmp_path: Path, s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / ".dvc/config.local").write_text("[cache]\n    dir = /elsewhere\n")
    remote.main(s3.url, [*KEYS, f"endpointurl={s3.endpoint}"])
    shared, own = settings(repository)
    assert "testing" not in shared
    assert f"endpointurl = {s3.endpoint}" in shared
    assert own == (
        "[cache]\n    dir = /elsewhere\n['remote \"team\"']\n"
        "    access_key_id = testing\n    secret_access_key = testing\n"
    )
    assert (repository / ".dvc/config.local").stat().st_mode & 0o777 == 0o600
    assert "testing" not in capsys.readouterr().out
    assert remote.opened().url == s3.url

    store = tmp_path / "store"
    store.mkdir()
    remote.main(str(store), [])
    shared, own = settings(repository)
    assert "endpointurl" not in shared
    assert own == "[cache]\n    dir = /elsewhere\n"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("store", "has to be absolute"),
        ("../store", "has to be absolute"),
        ("ss3://bucket/team", "remotes on ss3:// are not supported"),
        ("gs://bucket/team", "remotes on gs:// are not supported"),
        ("s3://", "is incomplete"),
        ("ssh://server", "is incomplete"),
        ("ssh://ana:secret@server/srv", "a password in the address"),
    ],
)
def test_an_address_that_is_none_is_refused_and_nothing_is_written(
    repository: Path, url: str, what: str
) -> None:
    with pytest.raises(ParamsError, match=what) as refused:
        remote.main(url, [])
    assert "secret" not in str(refused.value)
    assert settings(repository) == (CONFIG, "")


def test_a_folder_in_the_repository_is_refused(repository: Path) -> None:
    with pytest.raises(ParamsError, match="is in the repository"):
        remote.main(str(repository / "store"), [])
    assert settings(repository) == (CONFIG, "")


@pytest.mark.parametrize(
    ("option", "what", "todo"),
    [
        (
            "endpiont=x",
            "endpiont=x is not an option of a remote on S3",
            "did you mean endpointurl=…?",
        ),
        ("keyfile=x", "is not an option of a remote on S3", ""),
        ("verify=false", "is not an option", ""),
        ("region", "is not an option", "did you mean region=…?"),
        ("secret_access_key=", "secret_access_key needs a value", ""),
        ("connect_timeout=soon", "the value of connect_timeout is invalid", ""),
    ],
)
def test_an_option_that_is_none_is_refused_and_nothing_is_written(
    repository: Path, option: str, what: str, todo: str
) -> None:
    with pytest.raises(ParamsError, match=what) as refused:
        remote.main("s3://bucket/team", [*KEYS, option])
    assert todo in refused.value.details["next"]
    assert settings(repository) == (CONFIG, "")


def test_a_remote_that_does_not_answer_is_not_written_down(
    repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match="does not exist"):
        remote.main(str(tmp_path / "mnt"), [])
    assert settings(repository) == (CONFIG, "")


def test_without_a_remote_the_command_that_makes_one_is_named(repository: Path) -> None:
    with pytest.raises(SetupError, match="no remote to share with") as refused:
        remote.opened()
    assert refused.value.details["next"].startswith("make remote URL=")
