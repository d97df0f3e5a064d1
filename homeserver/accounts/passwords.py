"""Passwords: hashed with Argon2id, in threads of their own.

A hash takes 20 ms and 19 MiB, so few are made at once and few may wait: a flood of
log-ins is refused instead of using up the machine. Hashes that other servers made with
bcrypt are understood, and replaced when their owner logs in.
"""

import asyncio
import contextlib
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import argon2
import bcrypt

from homeserver import errors
from homeserver.config.accounts import Passwords

THREADS: Final = 2
MAX_WAITING: Final = 64
MAX_LENGTH: Final = 512  # characters

# As OWASP advises for Argon2id; a check costs 20 ms.
_HASHER: Final = argon2.PasswordHasher(
    time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16
)
# What is checked when there is no such user, so that the answer takes as long.
_NOBODY: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$yUhkBBgNvLu2/ncX8Oezrg"
    "$97MI1c4PFoymfupv89D65I9YrtOXEYhS23guuo8vfMU"
)
_BCRYPT_BYTES: Final = 72
_NICE: Final = 10


def _give_way() -> None:
    """Let the event loop have the processor first: log-ins delay nobody else."""
    # Linux has priorities for each thread; elsewhere this would be the whole process.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


_threads: Final = ThreadPoolExecutor(THREADS, "passwords", initializer=_give_way)
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Queue:
    waiting: int = 0


_queue: Final = _Queue()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password fits, and whether its hash should be made anew."""

    fits: bool
    is_outdated: bool = False


def check_policy(policy: Passwords, password: str) -> None:
    """Refuse a new password that the configuration does not allow.

    Raises: M_WEAK_PASSWORD.
    """
    lacking = ""
    if len(password) < policy.min_length:
        lacking = f"It needs at least {policy.min_length} characters."
    elif policy.require_letter and not any(map(str.isalpha, password)):
        lacking = "It needs a letter."
    elif policy.require_digit and not any(map(str.isdigit, password)):
        lacking = "It needs a digit."
    elif policy.require_symbol and all(map(str.isalnum, password)):
        lacking = "It needs a character that is neither letter nor digit."
    if lacking:
        raise errors.weak_password(f"The password is too weak. {lacking}")


async def hash_password(password: str) -> str:
    """The hash to store. Raises: 503, when too many wait; M_INVALID_PARAM."""
    if len(password) > MAX_LENGTH:
        raise errors.invalid_param(
            f"A password can have at most {MAX_LENGTH} characters."
        )
    if not password:
        raise errors.weak_password("The password must not be empty.")
    return await _in_thread(lambda: _HASHER.hash(_normal(password)))


async def check_password(password: str, password_hash: str | None) -> Verdict:
    """Whether the password fits; a hash of None fits nothing, and takes as long.

    Raises: 503, when too many wait.
    """
    if len(password) > MAX_LENGTH:
        return Verdict(fits=False)
    return await _in_thread(lambda: _check(_normal(password), password_hash))


def _normal(password: str) -> str:
    # The same character may be typed in several ways.
    return unicodedata.normalize("NFKC", password)


def _check(password: str, password_hash: str | None) -> Verdict:
    if password_hash is not None and password_hash.startswith(("$2a$", "$2b$", "$2y$")):
        return Verdict(_check_bcrypt(password, password_hash), is_outdated=True)
    try:
        _HASHER.verify(password_hash or _NOBODY, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return Verdict(fits=False)
    if password_hash is None:
        return Verdict(fits=False)
    return Verdict(fits=True, is_outdated=_HASHER.check_needs_rehash(password_hash))


def _check_bcrypt(password: str, password_hash: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], password_hash.encode())
    except ValueError:  # not a hash at all, or a NUL in the password
        return False


async def _in_thread(work: Callable[[], _Result]) -> _Result:
    if _queue.waiting >= MAX_WAITING:
        raise errors.overloaded()
    _queue.waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, work)
    finally:
        _queue.waiting -= 1
