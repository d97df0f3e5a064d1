"""Who somebody says they are, and whether their password says so too.

Spec: client-server-api#identifier-types
"""

import asyncio
import math
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import ServerName, UserId, parse_user_id, server_of
from homeserver import errors
from homeserver.accounts import passwords
from homeserver.accounts.addresses import MSISDN, canonical, canonical_phone
from homeserver.accounts.passwords import Verdict
from homeserver.accounts.sources import PasswordSources
from homeserver.accounts.store import devices, threepids, users
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.store.users import Account
from homeserver.context import Context
from homeserver.db.pool import Database
from homeserver.errors import MatrixError
from homeserver.http.limits import (
    Limit,
    Limits,
    address_key,
    failed_logins,
    failed_logins_at_home,
)

# A step for bcrypt at the cost that others use as a rule; each cost more doubles it.
_STEP_S: Final = 0.5
_USUAL_COST: Final = 12
_MAX_COST: Final = 16


def identified_user(body: JsonObject, server_name: ServerName) -> UserId | None:
    """The local user that the body names by user ID or name; None: nobody here.

    Raises: M_BAD_JSON, when nothing is named at all.
    """
    identifier = body.get("identifier")
    if identifier is None:
        # COMPAT(clients of r0.4 and older): `user`, or `medium` and `address`.
        if "user" not in body and "address" in body:
            return None
        return _local_user(body.get("user"), server_name)
    if not isinstance(identifier, dict):
        raise errors.bad_json("identifier: a JSON object is needed.")
    match identifier.get("type"):
        case "m.id.user":
            return _local_user(identifier.get("user"), server_name)
        case str():
            return None
        case _:
            raise errors.bad_json("identifier.type: a string is needed.")


async def identify(
    db: Database, body: JsonObject, server_name: ServerName
) -> UserId | None:
    """The local user that the body names in any way; None when it is nobody here.

    Raises: M_BAD_JSON, when nothing is named at all.
    """
    user_id, address = identified_user(body, server_name), _address(body)
    if user_id is not None or address is None:
        return user_id
    async with db.read() as tx:
        return await threepids.owner(tx, *address)


def _address(body: JsonObject) -> tuple[str, str] | None:
    """The medium and the address that the body names, as they are kept."""
    named = body.get("identifier", body)
    if not isinstance(named, dict):
        return None
    try:
        match named:
            case {"type": "m.id.phone", "country": str(country)}:
                number = named.get("phone", named.get("number"))
                if isinstance(number, str):
                    return MSISDN, canonical_phone(number, country)
            case {"medium": str(medium), "address": str(address)} if (
                named is body or named.get("type") == "m.id.thirdparty"
            ):
                return medium, canonical(medium, address)
            case _:
                return None
    except MatrixError:  # what cannot be one belongs to nobody
        return None
    return None


def _local_user(name: object, server_name: ServerName) -> UserId | None:
    if not isinstance(name, str):
        raise errors.bad_json("The user's name is missing.")
    given = name if name.startswith("@") else f"@{name}:{server_name}"
    try:
        user_id = parse_user_id(given)
    except Malformed:
        return None
    return user_id if server_of(user_id) == server_name else None


async def find_account(db: Database, user_id: UserId) -> Account | None:
    """The account; accounts made here have small letters, whatever people type."""
    async with db.read() as tx:
        found = await users.account(tx, user_id)
        if found is None and user_id.lower() != user_id:
            found = await users.account(tx, user_id.lower())
        return found


async def verify_password(
    ctx: Context, limits: Limits, user_id: UserId | None, password: str, ip: str = ""
) -> Account:
    """The account whose password this is.

    An unknown user takes as long and is answered the same as a wrong password. Wrong
    passwords count against the account, also when they come from many addresses; those
    of strangers do not lock its owner out, who comes from an address that it knows.

    Raises: M_FORBIDDEN, M_USER_DEACTIVATED, M_USER_LOCKED, M_LIMIT_EXCEEDED; MSC3866's
    M_USER_AWAITING_APPROVAL.
    """
    if not ctx.config.passwords.log_in:
        raise errors.forbidden("Nobody logs in with a password on this server.")
    db, began = ctx.db, ctx.clock.monotonic()
    account = None if user_id is None else await find_account(db, user_id)
    key = account.user_id if account else ""
    if not key and user_id is not None and ctx.parts.get(PasswordSources).sources:
        key = user_id.lower()  # somebody whom a directory may know
    counted = await _counted(db, key, ip) if key else []
    for limit, whose in counted:
        limits.check(limit, whose)
    account, verdict = await _judge(ctx, account, user_id, password)
    if account is None or not verdict.fits:
        for limit, whose in counted:
            limits.spend(limit, whose)
        await _take_as_long(ctx, began)
        raise errors.forbidden("User name or password are wrong.")
    if account.is_locked:
        raise errors.user_locked()
    if not account.is_approved:
        raise errors.user_awaiting_approval(by_email=await _has_email(db, account))
    if verdict.is_outdated:
        new_hash = await passwords.hash_password(password)
        async with db.transaction() as tx:
            await users.set_password_hash(
                tx, account.user_id, new_hash, instead_of=account.password_hash
            )
    return account


async def _judge(
    ctx: Context, account: Account | None, user_id: UserId | None, password: str
) -> tuple[Account | None, Verdict]:
    """Whether it is the account's password, here or where others know them."""
    verdict = await passwords.check_password(
        password, account.password_hash if account else None
    )
    if account is not None and account.is_deactivated:
        raise errors.user_deactivated()
    if verdict.fits or user_id is None:
        return account, verdict
    name = account.user_id if account else UserId(user_id.lower())
    if await ctx.parts.get(PasswordSources).know(name, password):
        return await find_account(ctx.db, name), Verdict(fits=True)
    return account, verdict


async def _take_as_long(ctx: Context, began: float) -> None:
    """Answer at the end of a step that is longer than any check of a password takes.

    Hashes of other servers, and directories, take longer than our hashes do: time
    would tell whose password is there, or that somebody is here at all.
    """
    async with ctx.db.read() as tx:
        cost = await users.dearest_bcrypt(tx)
    if cost is None and not ctx.parts.get(PasswordSources).sources:
        return
    step = _STEP_S * 2 ** max(0, min(cost or 0, _MAX_COST) - _USUAL_COST)
    gone = ctx.clock.monotonic() - began
    await asyncio.sleep(math.ceil(gone / step) * step - gone)


async def _counted(db: Database, user_id: str, ip: str) -> list[tuple[Limit, str]]:
    """What a wrong password counts against."""
    async with db.read() as tx:
        is_known = bool(ip) and await devices.was_seen_at(tx, user_id, ip)
    if is_known:
        return [(failed_logins_at_home, f"{user_id} {address_key(ip)}")]
    return [(failed_logins, user_id)]


async def _has_email(db: Database, account: Account) -> bool:
    async with db.read() as tx:
        found = await threepids.of_user(tx, account.user_id)
    return any(each.medium == "email" for each in found)


@dataclass(frozen=True, slots=True)
class PasswordStage:
    """The stage m.login.password, for a user who is logged in.

    Spec: client-server-api#password-based
    """

    ctx: Context
    limits: Limits
    user_id: UserId

    async def __call__(self, auth: JsonObject, _session: UiaSession) -> bool:
        """Check the password. Raises: M_FORBIDDEN."""
        password = auth.get("password")
        if not isinstance(password, str):
            raise errors.bad_json("auth.password: a string is needed.")
        named = await identify(self.ctx.db, auth, server_of(self.user_id))
        account = await verify_password(self.ctx, self.limits, named, password)
        if account.user_id != self.user_id:
            raise errors.forbidden("This is the password of another user.")
        return False
