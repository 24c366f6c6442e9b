"""The team's remote: what is there, sent whole or not at all, and compared with its name.

DVC's own file systems reach it, by its settings in .dvc/config. What DVC leaves
open when it pushes and pulls is closed here: over SSH it accepts any host key; it
sends what has rotted in its cache; it takes whatever bears an object's name on the
remote for that object; and its errors are often a traceback.
"""

import asyncio
import errno
import hashlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from core.pipeline import files, provenance
from core.pipeline.errors import PipelineError, SetupError, StorageError
from tools import extra
from tools.experiments.outputs import OBJECTS, READ_ONLY, RUNS

SCHEMES = {"": "a folder", "s3": "S3", "ssh": "SSH"}
MODULES = {"s3": "dvc_s3", "ssh": "dvc_ssh"}  # that an extra of the same name brings
SECONDS = 30  # until a machine that does not answer is away

AGAIN = "then the same command again"
LIBRARIES = ("aiobotocore", "aiohttp", "asyncssh", "botocore")  # their errors are the remote's
NO_KEYS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")  # of botocore
LOGIN_TO_S3 = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give them\n"
    "to make remote: they stay in .dvc/config.local"
)
# How S3 says that it has no room, in no code that s3fs knows.
FULL = ("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507", "No space left")


class Storage:
    """A remote that was reached.

    Args:
        settings: of the remote, as in .dvc/config: `url`, and DVC's options.

    Raises:
        PipelineError: it cannot be reached or read, or a package is missing.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.url = str(settings["url"])
        self.scheme = urlsplit(self.url).scheme
        if self.scheme in MODULES:
            extra.require(self.scheme, MODULES[self.scheme], f"a remote on {SCHEMES[self.scheme]}")
        from dvc.fs import get_cloud_fs

        kind, config, self.path = get_cloud_fs({}, **settings)
        self._dvc = kind(**config)
        if self.scheme == "ssh":
            # sshfs would take any key; without it asyncssh reads ~/.ssh/known_hosts
            self._dvc.fs_args["known_hosts"] = ()
            self._dvc.fs_args["timeout"] = float(config.get("timeout", SECONDS))
            self._dvc.fs_args["connect_timeout"] = float(config.get("timeout", SECONDS))
        with self._told("reached"):
            self._fs = self._dvc.fs
            top = self.path.strip("/").split("/")[0] if self.scheme == "s3" else self.path
            self._each([top], self._info)

    def object(self, md5: str) -> str:
        """Return where on the remote the object of this MD5 lies."""
        return f"{self.path.rstrip('/')}/{OBJECTS}/{md5[:2]}/{md5[2:]}"

    def entry(self, name: str) -> str:
        """Return where on the remote an entry of the run cache lies."""
        return f"{self.path.rstrip('/')}/{RUNS}/{name}"

    def sizes(self, paths: Collection[str]) -> dict[str, int]:
        """Return the bytes of each of these files that is there."""

        async def look(path: str) -> None:
            with suppress(FileNotFoundError):
                found[path] = int((await self._info(path))["size"])

        found: dict[str, int] = {}
        with self._told("read"):
            self._each(sorted(paths), look)
        return found

    def send(self, sources: Mapping[str, Path]) -> None:
        """Write files to the remote, each whole or not at all.

        Args:
            sources: the local file for each path on the remote; all are sent before this
                returns, or it raises.
        """

        async def send(path: str) -> None:
            with bar.file() as moved:
                await self._put(sources[path], path, moved)

        total = sum(source.stat().st_size for source in sources.values())
        with self._told("written"), _Bar("sending", total) as bar:
            self._each(sorted(sources), send)

    def get(self, sums: Mapping[str, str], targets: Mapping[str, Path]) -> dict[str, str]:
        """Read objects from the remote, and compare each with its MD5 before it gets its name.

        Args:
            sums: the MD5 that each path on the remote should have.
            targets: the local file for each of these paths that is to be kept.

        Returns:
            For each that is damaged there its MD5; empty if it is gone. Nothing of it is kept.
        """

        async def get(path: str) -> None:
            target = targets.get(path)
            if target:
                target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target and target.parent) as folder:
                got = Path(folder) / sums[path]
                try:
                    with bar.file() as moved:
                        await self._get(path, got, moved)
                except FileNotFoundError:
                    damaged[path] = ""
                    return
                if (md5 := provenance.md5(got)) != sums[path]:
                    damaged[path] = md5
                elif target:
                    got.chmod(READ_ONLY)
                    got.replace(target)

        damaged: dict[str, str] = {}
        total = sum(self.sizes(sums).values())
        what = "getting" if targets else "reading"
        with self._told("read"), _Bar(what, total) as bar:
            self._each(sorted(sums), get)
        return damaged

    def try_out(self) -> None:
        """Write a file, read it and remove it.

        Raises:
            PipelineError: one of these is refused.
        """
        path = f"{self.path.rstrip('/')}/.samebits-{socket.gethostname()}"
        content = b"a file that make remote writes and removes\n"
        with tempfile.TemporaryDirectory() as folder:
            ours = Path(folder) / "sent"
            ours.write_bytes(content)
            self.send({path: ours})
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if self.get({path: md5}, {}):
                raise SetupError(
                    "the remote gives back other bytes than were written to it", where=self.url
                )
        with self._told("tidied"):
            self._each([path], lambda path: self._call("rm_file", path))

    async def _call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """Do what a file system of fsspec does, whether it waits for it or not."""
        if self._fs.async_impl:
            return await getattr(self._fs, f"_{operation}")(*arguments, **options)
        return await asyncio.to_thread(getattr(self._fs, operation), *arguments, **options)

    async def _info(self, path: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._call("info", path)
        return found

    async def _put(self, source: Path, path: str, moved: Callable[[int], None]) -> None:
        """Write a file under its final name once it is complete."""
        if self.scheme:  # over SSH DVC renames what is complete, and S3 has no halves
            await self._call("put_file", str(source), path, callback=_callback(moved))
        else:
            await asyncio.to_thread(_copy, source, Path(path))
            moved(source.stat().st_size)

    async def _get(self, path: str, target: Path, moved: Callable[[int], None]) -> None:
        if self.scheme:
            await self._call("get_file", path, str(target), callback=_callback(moved))
        else:
            await asyncio.to_thread(_copy, Path(path), target)
            moved(target.stat().st_size)

    def _each(self, paths: Sequence[str], work: Callable[[str], Coroutine[Any, Any, Any]]) -> None:
        """Do `work` for each path, some at once; when one fails, the others are stopped.

        Ctrl-C stops them too, and they tidy up before this returns.
        """
        ended = threading.Event()

        async def everything() -> None:
            room = asyncio.Semaphore(self._dvc.jobs)

            async def one(path: str) -> None:
                async with room:
                    await work(path)

            try:
                async with asyncio.TaskGroup() as group:
                    for path in paths:
                        group.create_task(one(path))
            except* Exception as failures:
                raise _first(failures) from None
            finally:
                ended.set()

        from fsspec.asyn import get_loop

        future = asyncio.run_coroutine_threadsafe(everything(), get_loop())
        try:
            future.result()
        except KeyboardInterrupt:
            future.cancel()
            ended.wait(timeout=SECONDS)
            raise

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Say in a few lines what a remote answers instead of doing it."""
        try:
            yield
        except PipelineError:
            raise
        except Exception as error:
            told = self._explained(error, doing)
            if told is None:
                raise
            raise told from error

    def _explained(self, error: Exception, doing: str) -> PipelineError | None:
        """Return what an error means for a user; None if it is a bug of ours."""
        kind, text = type(error).__name__, _one_line(error)
        where = self.url
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or any(word in text for word in FULL):
            return StorageError(
                "there is no room on the remote",
                found=text,
                where=where,
                todo=f"make room there, {AGAIN}",
            )
        if kind == "HostKeyNotVerifiable":
            return SetupError(
                "the remote's machine is not one that you know",
                expected="a line for it in ~/.ssh/known_hosts",
                found=text,
                where=where,
                todo=f"{self._ssh}, compare the fingerprint with what its owner says, say yes",
            )
        if kind in NO_KEYS or (doing == "reached" and isinstance(error, PermissionError)):
            login = f"{self._ssh} has to work without a question (ssh-copy-id, ssh-agent)"
            return SetupError(
                "the remote does not let you in",
                found=text,
                where=where,
                todo=LOGIN_TO_S3 if self.scheme == "s3" else login,
            )
        if isinstance(error, FileNotFoundError) and doing in ("reached", "written"):
            what = "bucket" if self.scheme == "s3" else "folder"
            return SetupError(
                f"the remote's {what} does not exist",
                where=where,
                todo=f"make the {what}, mount it, or mend the address: make remote URL=…",
            )
        refused = number in (errno.EROFS, errno.EPERM) or kind == "SFTPPermissionDenied"
        if isinstance(error, PermissionError) or refused:
            return SetupError(
                f"the remote may not be {doing}",
                found=text,
                where=where,
                todo="ask its owner for the permission",
            )
        if kind == "SFTPFailure" and doing == "written":
            return StorageError(
                "the remote does not take what is written",
                found=f"its SSH server says no more than: {text}",
                where=where,
                todo=f"see there whether the disk is full or read-only (df), {AGAIN}",
            )
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in LIBRARIES:
            away = doing == "reached" or isinstance(error, ConnectionError | TimeoutError)
            return SetupError(
                "the remote cannot be reached" if away else f"the remote could not be {doing}",
                found=text,
                where=where,
                todo=f"look whether the address and the network are right, {AGAIN}",
            )
        return None

    @property
    def _ssh(self) -> str:
        """What opens a session on the machine of the remote."""
        parts = urlsplit(self.url)
        port = f" -p {parts.port}" if parts.port else ""
        user = f"{parts.username}@" if parts.username else ""
        return f"ssh{port} {user}{parts.hostname}"


class _Bar:
    """A progress bar of bytes, where somebody looks."""

    def __init__(self, what: str, total: int) -> None:
        self._bar = tqdm(
            total=total, desc=what, unit="B", unit_scale=True, leave=False, disable=None
        )

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @contextmanager
    def file(self) -> Iterator[Callable[[int], None]]:
        """Yield what takes the bytes of a file that have moved so far."""
        so_far = 0

        def moved(count: int) -> None:
            nonlocal so_far
            self._bar.update(count - so_far)
            so_far = count

        yield moved


def _callback(moved: Callable[[int], None]) -> Any:
    from fsspec.callbacks import Callback

    def told(size: int | None, value: int, **_: Any) -> None:
        moved(value)

    return Callback(hooks={"bar": told})


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, files.replacing(target, size=source.stat().st_size) as written:
        shutil.copyfileobj(read, written)
    target.chmod(READ_ONLY)


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
