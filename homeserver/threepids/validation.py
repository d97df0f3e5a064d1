"""Show that an address is somebody's: a token goes there, and has to come back.

Spec: client-server-api#adding-account-administrative-contact-information
"""

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlencode, urlsplit

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import tokens
from homeserver.accounts.addresses import EMAIL
from homeserver.accounts.store import threepids
from homeserver.accounts.store.threepids import Threepid
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.http.limits import Limit, address_key
from homeserver.http.requests import Request
from homeserver.mail import messages
from homeserver.mail import store as outbox
from homeserver.mail.messages import Words
from homeserver.mail.postman import Postman
from homeserver.threepids import store
from homeserver.threepids.store import NewSession, Session

PAGE: Final = "/account/confirm"
EMAIL_LIFETIME: Final = timedelta(hours=24)
SMS_LIFETIME: Final = timedelta(minutes=30)
# A code has six digits, so it may be guessed at a few times only.
MAX_TRIES: Final = 5
MAX_LINK: Final = 2048
_SECRET: Final = re.compile(r"[0-9a-zA-Z.=_-]{1,255}")

# Messages cost: those that one address of the internet asks for, and those that one
# mailbox or phone gets.
asking: Final = Limit("threepid_asking", per_second=0.05, burst=20)
getting: Final = Limit("threepid_getting", per_second=1 / 300, burst=5)
# Codes that are tried out.
trying: Final = Limit("threepid_trying", per_second=0.2, burst=20)


class Purpose(StrEnum):
    """What a session is for; it is good for nothing else."""

    REGISTER = "register"
    ADD = "add"
    PASSWORD = "password"  # noqa: S105 - the name of a purpose


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for."""

    purpose: Purpose
    medium: str
    address: str
    client_secret: str
    send_attempt: int
    next_link: str | None = None


def check_secret(client_secret: str) -> None:
    """Refuse what cannot be a client secret. Raises: M_INVALID_PARAM."""
    if not _SECRET.fullmatch(client_secret):
        raise errors.invalid_param(
            "client_secret: 1 to 255 of the characters 0-9a-zA-Z.=_- are needed."
        )


def check_link(next_link: str | None) -> None:
    """Refuse links that are not of the web. Raises: M_INVALID_PARAM."""
    if next_link is None:
        return
    try:
        parts = urlsplit(next_link)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good or len(next_link) > MAX_LINK or not next_link.isprintable():
        raise errors.invalid_param("next_link: a link of the web is needed.")


def check_medium(ctx: Context, medium: str) -> None:
    """Refuse what we cannot send to. Raises: M_THREEPID_MEDIUM_NOT_SUPPORTED."""
    postman = ctx.parts.get(Postman)
    if medium == EMAIL and not postman.has_mail:
        raise errors.threepid_medium_not_supported("This server sends no e-mail.")
    if medium != EMAIL and not postman.has_sms:
        raise errors.threepid_medium_not_supported(
            "This server sends no text messages."
        )


async def request_token(ctx: Context, request: Request, wanted: Wanted) -> str:
    """Begin a session, and send its token; the session's ID.

    Raises: M_INVALID_PARAM, M_THREEPID_MEDIUM_NOT_SUPPORTED, M_LIMIT_EXCEEDED; where
    the configuration wants that told, M_THREEPID_IN_USE and M_THREEPID_NOT_FOUND.
    """
    check_medium(ctx, wanted.medium)
    check_secret(wanted.client_secret)
    check_link(wanted.next_link)
    if not 0 <= wanted.send_attempt < 2**53:
        raise errors.invalid_param("send_attempt: a number is needed.")
    request.spend(asking, address_key(request.ip))
    request.spend(getting, f"{wanted.medium} {wanted.address}")
    is_mail = wanted.medium == EMAIL
    token = secrets.token_urlsafe(32) if is_mail else f"{secrets.randbelow(10**6):06}"
    new = NewSession(
        tokens.new_session_id(),
        wanted.purpose,
        wanted.medium,
        wanted.address,
        tokens.hash_of(wanted.client_secret),
        wanted.send_attempt,
        tokens.hash_of(token),
        wanted.next_link,
        EMAIL_LIFETIME if is_mail else SMS_LIFETIME,
    )
    async with ctx.db.transaction() as tx:
        owner = await threepids.owner(tx, wanted.medium, wanted.address)
        _tell(ctx, wanted.purpose, owner)
        session_id, is_to_send = await store.begin(tx, new)
        if is_to_send:
            accepted = request.headers.get("Accept-Language", "")
            if is_mail:
                await _send_mail(ctx, tx, wanted, owner, session_id, token, accepted)
            elif (owner is not None) == (wanted.purpose is Purpose.PASSWORD):
                text = messages.code(accepted, token, ctx.server_name)
                await outbox.add(tx, wanted.medium, wanted.address, "", text)
    ctx.parts.get(Postman).wake()
    return session_id


def _tell(ctx: Context, purpose: Purpose, owner: UserId | None) -> None:
    """Say whether the address is known, if everybody may learn that."""
    if not ctx.config.threepids.tell_if_known:
        return
    if purpose is Purpose.PASSWORD:
        if owner is None:
            raise errors.threepid_not_found()
    elif owner is not None:
        raise errors.threepid_in_use()


_WORDS: Final = {
    Purpose.REGISTER: messages.CONFIRM_REGISTRATION,
    Purpose.ADD: messages.CONFIRM_ADDITION,
    Purpose.PASSWORD: messages.RESET_PASSWORD,
}


async def _send_mail(
    ctx: Context,
    tx: Tx,
    wanted: Wanted,
    owner: UserId | None,
    session_id: str,
    token: str,
    accepted: str,
) -> None:
    """Send the link, or say to whose mailbox this is why there is none."""
    query = urlencode({"sid": session_id, "token": token})
    link = f"{ctx.config.public_base_url.rstrip('/')}{PAGE}?{query}"
    words: Words = _WORDS[wanted.purpose]
    if wanted.purpose is Purpose.PASSWORD:
        if owner is None:
            words, link = messages.NO_ACCOUNT, ""
    elif owner is not None:
        words, link = messages.ADDRESS_TAKEN, ""
    said = messages.letter(
        words, accepted, link, server=ctx.server_name, account=owner or ""
    )
    await outbox.add(
        tx, wanted.medium, wanted.address, said.subject, said.plain, said.html
    )


# ── The token comes back ─────────────────────────────────────────────────────────────


def refused() -> errors.MatrixError:
    """A token is wrong or too old."""
    return errors.forbidden("This has run out, or the code is wrong. Begin again.")


async def find(ctx: Context, session_id: str, token: str) -> Session | None:
    """The session that the token is for. Counts as a try when it is wrong."""
    if "\0" in session_id:
        return None
    async with ctx.db.transaction() as tx:
        found = await store.session(tx, session_id)
        if found is None or found.tries >= MAX_TRIES:
            return None
        if not hmac.compare_digest(found.token_hash, tokens.hash_of(token)):
            await store.note_try(tx, session_id, is_right=False)
            return None
        return found


async def submit(
    ctx: Context, session_id: str, token: str, client_secret: str | None = None
) -> Session | None:
    """Confirm the address; None when the token is wrong or too old.

    A code of a text message needs the client's secret as well.
    """
    found = await find(ctx, session_id, token)
    if found is None or (client_secret is None and found.medium != EMAIL):
        return None
    if client_secret is not None and not hmac.compare_digest(
        found.secret_hash, tokens.hash_of(client_secret)
    ):
        return None
    async with ctx.db.transaction() as tx:
        await store.note_try(tx, session_id, is_right=True)
    return found


async def proven(
    tx: Tx, purpose: Purpose, session_id: str, client_secret: str, now_ms: int
) -> Threepid | None:
    """The address that the session has shown to be the client's; None: not yet."""
    if "\0" in session_id:
        return None
    found = await store.session(tx, session_id)
    if (
        found is None
        or found.purpose != purpose
        or found.validated_at is None
        or not hmac.compare_digest(found.secret_hash, tokens.hash_of(client_secret))
    ):
        return None
    validated_ms = int(found.validated_at.timestamp() * 1000)
    return Threepid(found.medium, found.address, validated_ms, now_ms)
