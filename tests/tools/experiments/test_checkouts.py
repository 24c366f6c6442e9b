"""Checkouts have the cache of the repository, wherever that is."""

from pathlib import Path

from dvc.config import Config
from dvc.repo import Repo

from tools.experiments import checkouts


def test_a_checkout_shares_a_cache_whose_path_has_any_letters(tmp_path: Path) -> None:
    root, folder = tmp_path / "größe 組", tmp_path / "checkout"
    root.mkdir()
    (folder / ".dvc").mkdir(parents=True)
    Repo.init(str(root), no_scm=True).close()
    checkouts._share_cache(root, folder)
    shared = Config(str(folder / ".dvc")).read("local")
    assert shared["cache"]["dir"] == str(root / ".dvc/cache")
