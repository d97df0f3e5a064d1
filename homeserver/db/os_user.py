"""As whom PostgreSQL runs: it refuses root, so root hands it to a lesser user."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from homeserver.db.errors import DatabaseError

# A user made for us, PostgreSQL's own, and the one that is always there.
CANDIDATES: Final = ("hearth", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user of the operating system; `is_us` when nothing has to be given up."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    is_us: bool

    def can_enter(self, directory: Path) -> bool:
        """Whether this user can reach the directory and everything on the way to it.

        Judged by the mode bits; a permission granted by an ACL alone is not seen,
        which costs a detour and nothing else.
        """
        resolved = directory.resolve()
        return all(
            self._may(step.stat(), stat.S_IXUSR)
            for step in (resolved, *resolved.parents)
        )

    def can_read(self, file: Path) -> bool:
        """Whether this user can open the file."""
        return self.can_enter(file.resolve().parent) and self._may(
            file.stat(), stat.S_IRUSR
        )

    def _may(self, status: os.stat_result, user_bit: int) -> bool:
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            return bool(status.st_mode & user_bit)
        if status.st_gid in (self.gid, *self.groups):
            return bool(status.st_mode & (user_bit >> 3))
        return bool(status.st_mode & (user_bit >> 6))


def of_uid(uid: int) -> OsUser:
    """The user with that number, whether or not it has a name."""
    if uid == os.geteuid():
        return OsUser(uid, os.getegid(), tuple(os.getgroups()), _name(uid), is_us=True)
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return OsUser(uid, uid, (), str(uid), is_us=False)
    return OsUser(uid, entry.pw_gid, (entry.pw_gid,), entry.pw_name, is_us=False)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def choose(cluster: Path) -> OsUser:
    """Who runs PostgreSQL on this data directory: its owner, once it is there.

    Raises: DatabaseError when the directory is someone else's, or root finds nobody
    to hand PostgreSQL to.
    """
    us = os.geteuid()
    owner = cluster.stat().st_uid if cluster.exists() else None
    if us != 0:
        if owner not in (None, us):
            raise DatabaseError(
                f"{cluster} belongs to {_name(owner)}, and this is {_name(us)}:"
                f" start as root or as {_name(owner)}, or give the directory away with"
                f" 'chown -R {_name(us)} {cluster}'"
            )
        return of_uid(us)
    if owner:
        return of_uid(owner)
    for name in CANDIDATES:
        try:
            return of_uid(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise DatabaseError(
        "PostgreSQL does not run as root, and none of the users"
        f" {', '.join(CANDIDATES)} exists: make one with 'useradd --system hearth'"
    )
