"""The data folder of an embedded server: who may enter it, who holds it, and which processes live in it."""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from service.database.embedded_lifeline import ServerUser
from service.database.errors import EmbeddedPostgresError

PORT: Final = 5432  # names the socket's file, nothing else

_LINUX: Final[bool] = sys.platform == "linux"
_OTHER_SERVER_TIMEOUT_SECONDS: Final = 20.0
_SOCKET_PATH_LIMIT: Final = 103  # bytes without the closing zero: macOS' limit; Linux allows 107
_SHORT: Final = Path("/tmp")  # noqa: S108 - for a private folder with a short path  # nosec B108
_SOCKET_FOLDER_PREFIX: Final = "cuadre-"
_LOG_LIMIT_BYTES: Final = 4 * 1024 * 1024
_ENTRIES: Final = frozenset({
    "cluster", "cluster.unfinished", "password", "password.initdb", "server.log", "server.log.1", "lock", "run",
    "lost+found",  # in the root of a mounted volume
})  # fmt: skip


class DataFolder:
    """A folder of ours, entered by nobody but `user` (None: ourselves). What is in it belongs to one server at a time.

    As root, the folder itself stays root's: the server, running as `nobody`, writes to `cluster` and `run` only.
    """

    def __init__(self, path: Path, user: ServerUser | None) -> None:
        self.path = path.absolute()
        self.user = user
        self.cluster = self.path / "cluster"
        self.log = self.path / "server.log"
        self._lock: int | None = None
        self._socket_folder: Path | None = None

    def take(self) -> None:
        """Make it if need be, and hold it: alone, until `release` or the end of this process."""
        try:
            self._make()
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EmbeddedPostgresError(f"cannot use the data folder {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EmbeddedPostgresError(
                f"the data folder {self.path} is in use: PostgreSQL runs there with pid {self.recorded_pid() or '?'}; "
                "stop it, or choose another folder"
            ) from None
        self._lock = lock
        try:
            self._await_former_server()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others have it. The socket's folder goes if it stood elsewhere."""
        if self._socket_folder is not None and self._socket_folder.parent != self.path:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        self._socket_folder = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def as_server_sees_it(self) -> Iterator[tuple[Path, tuple[int, ...]]]:
        """The path by which the server reaches the folder, and the file descriptors it must inherit for that.

        As root, the way may lead through folders closed to `nobody` (`/root`). They are not opened for it: the server
        inherits this one folder, open, and gets at it through that.
        """
        if self.user is None or _may_pass(self.path, self.user):
            yield self.path, ()
            return
        if not _LINUX:
            raise EmbeddedPostgresError(
                f"the user {self.user.name}, as whom PostgreSQL runs, cannot reach {self.path}; choose another folder"
            )
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield Path(f"/proc/self/fd/{descriptor}"), (descriptor,)
        finally:
            os.close(descriptor)

    def socket_folder(self) -> Path:
        """A private folder whose path is short enough for a socket; the same until `release`."""
        if self._socket_folder is None:
            folder = self.path / "run"
            if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) > _SOCKET_PATH_LIMIT:
                folder = Path(tempfile.mkdtemp(prefix=_SOCKET_FOLDER_PREFIX, dir=_SHORT))
            self.make_for_server(folder)
            self._socket_folder = folder
        return self._socket_folder

    def make_for_server(self, folder: Path) -> None:
        """Make `folder`, for the server alone."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None:
            os.chown(folder, self.user.uid, self.user.gid, follow_symlinks=False)

    def password(self) -> str:
        """The database user's password; made at the first call, kept in a file for us alone."""
        path = self.path / "password"
        try:
            path.chmod(0o600)
            return path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            if self.cluster.exists():
                raise EmbeddedPostgresError(
                    f"{path} is missing, and without it nobody gets into the database; "
                    f"put it back, or move {self.path} away to begin anew"
                ) from None
        password = secrets.token_urlsafe(24)
        self.write_private(path, password + "\n")
        return password

    def write_private(self, path: Path, text: str, *, for_server: bool = False) -> None:
        """Write a new file with mode 0600, of ours or of the server's. It must not exist."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if for_server and self.user is not None:
                os.fchown(descriptor, self.user.uid, self.user.gid)
            file.write(text)

    def open_log(self) -> IO[bytes]:
        """The server's log, to append to. What is older than the last few megabytes goes to `server.log.1`."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_name("server.log.1"))
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        return os.fdopen(descriptor, "ab")

    def pid_file_lines(self) -> list[str]:
        """Lines of PostgreSQL's `postmaster.pid`; none without one. The first is the pid, the last its state."""
        try:
            return (self.cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def recorded_pid(self) -> int | None:
        """The pid in `postmaster.pid`, whoever has that number now."""
        lines = self.pid_file_lines()
        return abs(int(lines[0])) if lines and re.fullmatch(r"-?\d+", lines[0].strip()) else None

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        strangers = {entry.name for entry in self.path.iterdir()} - _ENTRIES
        if strangers:
            raise EmbeddedPostgresError(
                f"{self.path} holds other things ({min(strangers)}); choose an empty or a new folder for the data"
            )
        if self.user is None:
            self.path.chmod(0o700)
        else:
            os.chown(self.path, os.geteuid(), self.user.gid)
            self.path.chmod(0o710)  # the server passes through, no more

    def _await_former_server(self) -> None:
        """After `kill -9` of its owner, the former server is still on its way out."""
        deadline = time.monotonic() + _OTHER_SERVER_TIMEOUT_SECONDS
        while living := self._living():
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"the data folder {self.path} is in use: PostgreSQL runs there with pid {living[0]}; "
                    f"stop it with: kill -INT {living[0]}"
                )
            time.sleep(0.02)
        self._clear_what_kill_9_left()

    def _clear_what_kill_9_left(self) -> None:
        """Files of a server that is no more name its process, and that number may be somebody else's by now (in a
        container: our own), or a zombie's. PostgreSQL would take him for the former server and refuse to start.
        """
        self._remove_former_socket_folder()
        recorded = self.recorded_pid()
        if recorded is not None and _exists(recorded):
            (self.cluster / "postmaster.pid").unlink()
        for leftover in (self.path / "run").glob(".s.PGSQL.*"):
            leftover.unlink()

    def _remove_former_socket_folder(self) -> None:
        named = Path("".join(self.pid_file_lines()[4:5]))
        owner = os.geteuid() if self.user is None else self.user.uid
        if named.parent == _SHORT and named.name.startswith(_SOCKET_FOLDER_PREFIX):
            with contextlib.suppress(OSError):
                if named.lstat().st_uid == owner:
                    shutil.rmtree(named)

    def _living(self) -> list[int]:
        """Processes of a PostgreSQL server in `cluster`, the first started first."""
        if _LINUX:
            return sorted(_processes_in(self.cluster), key=lambda pid: (pid != self.recorded_pid(), pid))
        recorded = self.recorded_pid()
        if recorded is None or not _exists(recorded):
            return []
        command = subprocess.run(
            ["ps", "-o", "comm=", "-p", str(recorded)], capture_output=True, text=True, check=False
        )
        return [recorded] if "postgres" in command.stdout else []


def _processes_in(folder: Path) -> Iterator[int]:
    # All processes of a server have its cluster as their working folder.
    try:
        wanted = folder.stat()
    except FileNotFoundError:
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # ended, or another user's
                if os.path.samestat((entry / "cwd").stat(), wanted):
                    yield int(entry.name)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _may_pass(path: Path, user: ServerUser) -> bool:
    """Whether `user` may pass through every folder above `path`."""
    for folder in path.resolve().parents:
        status = folder.stat()
        group_bit = 0o010 if status.st_gid == user.gid else 0o001
        bit = 0o100 if status.st_uid == user.uid else group_bit
        if not status.st_mode & bit:
            return False
    return True
