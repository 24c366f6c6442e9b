"""The team's remote: files are sent completely or not at all, and checked by their hashes.

DVC's file systems access it, with the settings in .dvc/config. This closes gaps of
`dvc push` and `dvc pull`: over SSH they accept any host key; they send corrupted objects of
the cache; they trust the name of an object on the remote; and errors are often a
traceback.
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
from tools.repository.added_data import FOLDER

SCHEMES = {"": "a folder", "s3": "S3", "ssh": "SSH"}
MODULES = {"s3": "dvc_s3", "ssh": "dvc_ssh"}  # each in the extra of the same name
SECONDS = 30  # to wait for a machine that does not answer

AGAIN = "then run the same command again"
LIBRARIES = (
    "aiobotocore",
    "aiohttp",
    "asyncssh",
    "botocore",
)  # their errors are the remote's
NO_KEYS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")  # of botocore
LOGIN_TO_S3 = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or pass them\n"
    "to make remote, which writes them to .dvc/config.local"
)
# Messages of S3 servers without free space, for which s3fs has no error code.
FULL = ("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507", "No space left")


class Storage:
    """A remote that could be reached.

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
            # sshfs accepts any key; with () asyncssh reads ~/.ssh/known_hosts
            self._dvc.fs_args["known_hosts"] = ()
            self._dvc.fs_args["timeout"] = float(config.get("timeout", SECONDS))
            self._dvc.fs_args["connect_timeout"] = float(config.get("timeout", SECONDS))
        with self._explaining("reached"):
            self._fs = self._dvc.fs
            top = self.path.strip("/").split("/")[0] if self.scheme == "s3" else self.path
            self._each([top], self._info)

    def object(self, md5: str) -> str:
        """Return the path of an object on the remote."""
        return f"{self.path.rstrip('/')}/{OBJECTS}/{md5[:2]}/{md5[2:]}"

    def entry(self, name: str) -> str:
        """Return the path of an entry of the run cache on the remote."""
        return f"{self.path.rstrip('/')}/{RUNS}/{name}"

    def sizes(self, paths: Collection[str]) -> dict[str, int]:
        """Return the size in bytes of each of these files that exists."""

        async def look(path: str) -> None:
            with suppress(FileNotFoundError):
                found[path] = int((await self._info(path))["size"])

        found: dict[str, int] = {}
        with self._explaining("read"):
            self._each(sorted(paths), look)
        return found

    def send(self, sources: Mapping[str, Path]) -> None:
        """Write files to the remote, each completely or not at all.

        Args:
            sources: the local file for each path on the remote.
        """

        async def send(path: str) -> None:
            with bar.file() as moved:
                await self._put(sources[path], path, moved)

        total = sum(source.stat().st_size for source in sources.values())
        with self._explaining("written"), _Bar("sending", total) as bar:
            self._each(sorted(sources), send)

    def get(self, sums: Mapping[str, str], targets: Mapping[str, Path]) -> dict[str, str]:
        """Read objects from the remote, and check the MD5 of each before it gets its final name.

        Args:
            sums: the expected MD5 of each path on the remote.
            targets: the local file for each of these paths that is to be stored.

        Returns:
            The MD5 of each damaged object, empty for a missing one. They are not stored.
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
                if (md5 := provenance.md5(got)) != sums[path].removesuffix(FOLDER):
                    damaged[path] = md5
                elif target:
                    got.chmod(READ_ONLY)
                    got.replace(target)

        damaged: dict[str, str] = {}
        total = sum(self.sizes(sums).values())
        what = "getting" if targets else "reading"
        with self._explaining("read"), _Bar(what, total) as bar:
            self._each(sorted(sums), get)
        return damaged

    def check_access(self) -> None:
        """Write a test file, read it and remove it.

        Raises:
            PipelineError: one of these fails.
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
                    "the remote returns other bytes than were written to it", where=self.url
                )
        with self._explaining("cleaned up"):
            self._each([path], lambda path: self._call("rm_file", path))

    async def _call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        """Call an operation of a synchronous or asynchronous file system of fsspec."""
        if self._fs.async_impl:
            return await getattr(self._fs, f"_{operation}")(*arguments, **options)
        return await asyncio.to_thread(getattr(self._fs, operation), *arguments, **options)

    async def _info(self, path: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._call("info", path)
        return found

    async def _put(self, source: Path, path: str, moved: Callable[[int], None]) -> None:
        """Write a file under its final name once it is complete."""
        if self.scheme:  # DVC renames complete files over SSH; S3 has no partial files
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
        """Do `work` for each path, several at once; when one fails, the others are stopped.

        Ctrl-C stops them too; they clean up before this returns.
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
    def _explaining(self, doing: str) -> Iterator[None]:
        """Turn an error of the remote into a message of a few lines."""
        try:
            yield
        except PipelineError:
            raise
        except Exception as error:
            explained = self._explained(error, doing)
            if explained is None:
                raise
            raise explained from error

    def _explained(self, error: Exception, doing: str) -> PipelineError | None:
        """Return the message for an error; None if it is a bug of ours."""
        kind, text = type(error).__name__, _one_line(error)
        where = self.url
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or any(word in text for word in FULL):
            return StorageError(
                "the remote is full",
                found=text,
                where=where,
                todo=f"free space there, {AGAIN}",
            )
        if kind == "HostKeyNotVerifiable":
            return SetupError(
                "the host key of the remote is unknown",
                expected="a line for it in ~/.ssh/known_hosts",
                found=text,
                where=where,
                todo=f"{self._ssh}, compare the fingerprint with that of its owner, answer yes",
            )
        if kind in NO_KEYS or (doing == "reached" and isinstance(error, PermissionError)):
            login = f"{self._ssh} has to work without a prompt (ssh-copy-id, ssh-agent)"
            return SetupError(
                "the remote denies access",
                found=text,
                where=where,
                todo=LOGIN_TO_S3 if self.scheme == "s3" else login,
            )
        if isinstance(error, FileNotFoundError) and doing in ("reached", "written"):
            what = "bucket" if self.scheme == "s3" else "folder"
            return SetupError(
                f"the remote's {what} does not exist",
                where=where,
                todo=f"create the {what}, mount it, or fix the address: make remote URL=…",
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
                "the remote rejects what is written",
                found=f"its SSH server says only: {text}",
                where=where,
                todo=f"check whether its disk is full or read-only (df), {AGAIN}",
            )
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in LIBRARIES:
            lost = doing == "reached" or isinstance(error, ConnectionError | TimeoutError)
            return SetupError(
                "the remote cannot be reached" if lost else f"the remote could not be {doing}",
                found=text,
                where=where,
                todo=f"check the address and the network, {AGAIN}",
            )
        return None

    @property
    def _ssh(self) -> str:
        """The command that opens a session on the remote."""
        parts = urlsplit(self.url)
        port = f" -p {parts.port}" if parts.port else ""
        user = f"{parts.username}@" if parts.username else ""
        return f"ssh{port} {user}{parts.hostname}"


class _Bar:
    """A progress bar of bytes, if the output is a terminal."""

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
        """Yield a function that takes the number of bytes transferred so far."""
        so_far = 0

        def moved(count: int) -> None:
            nonlocal so_far
            self._bar.update(count - so_far)
            so_far = count

        yield moved


def _callback(moved: Callable[[int], None]) -> Any:
    from fsspec.callbacks import Callback

    def report(size: int | None, value: int, **_: Any) -> None:
        moved(value)

    return Callback(hooks={"bar": report})


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
