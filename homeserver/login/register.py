"""Make an account: what its name may be, who may make one, and the making.

Spec: client-server-api#post_matrixclientv3register
"""

import secrets
import string
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import (
    MAX_ID_BYTES,
    ServerName,
    UserId,
    parse_new_localpart,
)
from homeserver import errors
from homeserver.accounts import uia
from homeserver.accounts.addresses import EMAIL
from homeserver.accounts.store import (
    registration_tokens,
    threepids,
    uia_sessions,
    users,
)
from homeserver.accounts.store.threepids import Threepid
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.uia import Stage, Uia
from homeserver.context import Context
from homeserver.db.pool import Database, Tx
from homeserver.login import captcha, terms
from homeserver.mail.postman import Postman
from homeserver.threepids.stages import (
    EMAIL_STAGE,
    MSISDN_STAGE,
    STAGES,
    ThreepidStage,
    proven_in,
)
from homeserver.threepids.validation import Purpose

# Where a session keeps the token of which it holds a use.
HELD: Final = "registration_token"
MAX_TOKEN: Final = 64
_GENERATED: Final = 10


def new_user_id(username: str | None, server_name: ServerName) -> UserId:
    """The user ID of a name somebody asks for; None: one that is made up.

    Capitals become small: user IDs have none, and people type them.

    Raises: M_INVALID_USERNAME. Spec: appendices#user-identifiers
    """
    if username is None:
        letters = string.ascii_lowercase + string.digits
        username = "".join(secrets.choice(letters) for _ in range(_GENERATED))
    try:
        localpart = parse_new_localpart(username.lower())
    except Malformed as error:
        raise errors.invalid_username(f"{str(error).capitalize()}.") from None
    user_id = UserId(f"@{localpart}:{server_name}")
    if len(user_id) > MAX_ID_BYTES:
        raise errors.invalid_username(
            f"A user ID can have at most {MAX_ID_BYTES} characters."
        )
    return user_id


async def check_available(db: Database, user_id: UserId) -> None:
    """Refuse a name that is taken. Raises: M_USER_IN_USE."""
    async with db.read() as tx:
        if await users.is_taken(tx, user_id):
            raise errors.user_in_use()


@dataclass(frozen=True, slots=True)
class RegistrationTokenStage:
    """The stage m.login.registration_token.

    Spec: client-server-api#token-authenticated-registration
    """

    db: Database

    async def __call__(self, auth: JsonObject, session: UiaSession) -> bool:
        """Hold one use of the token. Raises: M_FORBIDDEN."""
        token = auth.get("token")
        if not isinstance(token, str):
            raise errors.bad_json("auth.token: a string is needed.")
        if not 0 < len(token) <= MAX_TOKEN or "\0" in token:
            raise errors.forbidden("The registration token is not valid.")
        async with self.db.transaction() as tx:
            stored = await uia_sessions.session(tx, session.session_id, uia.LIFETIME)
            if stored is not None and HELD in stored.details:
                session.details[HELD] = stored.details[HELD]
                return True  # another request of this session was faster
            if not await registration_tokens.reserve(tx, token):
                raise errors.forbidden("The registration token is not valid.")
            # In the same transaction, so that a use that is held is always known.
            session.details[HELD] = token
            await uia_sessions.save(tx, session)
        return True


def registration(ctx: Context) -> Uia:
    """What somebody must do to register. Raises: M_FORBIDDEN, when nobody can."""
    wanted, postman = ctx.config.registration, ctx.parts.get(Postman)
    if wanted.mode == "closed" or not ctx.config.passwords.log_in:
        raise errors.forbidden("Nobody can register on this server.")
    stages: dict[str, Stage] = {}
    params: dict[str, JsonObject] = {}
    if wanted.mode == "token":
        stages[uia.REGISTRATION_TOKEN] = RegistrationTokenStage(ctx.db)
    elif ctx.config.captcha.kind != "none":
        stages[captcha.STAGE] = captcha.CaptchaStage(ctx.config.captcha)
        params[captcha.STAGE] = {"public_key": ctx.config.captcha.site_key}
    documents = terms.policies(wanted)
    if documents:
        stages[terms.STAGE] = terms.TermsStage(wanted)
        params[terms.STAGE] = {"policies": documents}
    base = list(stages)
    flows = [base] if base else []
    if postman.has_mail or postman.has_sms or not base:
        # With a last stage of its own, no flow is the beginning of another.
        flows = [[*base, uia.DUMMY]]
        stages[uia.DUMMY] = uia.check_dummy
    for name, is_there in (
        (EMAIL_STAGE, postman.has_mail),
        (MSISDN_STAGE, postman.has_sms),
    ):
        if is_there:
            medium = STAGES[name]
            stages[name] = ThreepidStage(ctx.db, ctx.clock, medium, Purpose.REGISTER)
            flows.append([*base, name])
    if wanted.require_email:
        flows = [[*base, EMAIL_STAGE]]
    return Uia("register", flows, stages, params)


async def check_room_for_one_more(ctx: Context) -> None:
    """Refuse when there are as many accounts as there may be.

    Raises: M_RESOURCE_LIMIT_EXCEEDED.
    """
    most = ctx.config.registration.max_users
    if not most:
        return
    async with ctx.db.read() as tx:
        if await users.count(tx) >= most:
            contact = ctx.config.support.admin_email or ctx.config.public_base_url
            raise errors.resource_limit_exceeded(
                "This server takes no more users.",
                f"mailto:{contact}" if "@" in contact else contact,
            )


def check_is_let_in(ctx: Context, session: UiaSession) -> None:
    """Refuse to log in whoever has to be approved first.

    Raises: M_USER_AWAITING_APPROVAL, as MSC3866 has it.
    """
    if ctx.config.registration.mode == "approval":
        found = proven_in(session, ctx.clock.ms())
        by_email = any(each.medium == EMAIL for each in found)
        raise errors.user_awaiting_approval(by_email=by_email)


async def sign_up(
    ctx: Context,
    user_id: UserId,
    password_hash: str,
    session: UiaSession,
    *,
    is_guest: bool = False,
) -> None:
    """Make the account of somebody who has gone through `registration`.

    Raises: M_USER_IN_USE, M_THREEPID_IN_USE; the session then goes on.
    """
    await make_account(
        ctx.db,
        user_id,
        password_hash,
        session=session,
        is_guest=is_guest,
        is_approved=ctx.config.registration.mode != "approval",
        addresses=proven_in(session, ctx.clock.ms()),
    )


async def make_account(
    db: Database,
    user_id: UserId,
    password_hash: str | None,
    *,
    session: UiaSession | None = None,
    is_admin: bool = False,
    is_guest: bool = False,
    is_approved: bool = True,
    addresses: Sequence[Threepid] = (),
    accepted_terms: str | None = None,
    also: Callable[[Tx], Awaitable[None]] | None = None,
) -> None:
    """Make the account, and end the session that allowed it, together.

    `is_guest`: the user has been a guest, and stays. `also` is done in the same
    transaction.

    Raises: M_USER_IN_USE and M_THREEPID_IN_USE; the session then goes on, so that
    another name can be taken.
    """
    accepted = session.details.get(terms.ACCEPTED) if session else accepted_terms
    async with db.transaction() as tx:
        made = (
            await users.end_guest(tx, user_id, password_hash)
            if is_guest and password_hash is not None
            else await users.create_user(
                tx,
                user_id,
                password_hash,
                is_admin=is_admin,
                is_approved=is_approved,
                terms=accepted if isinstance(accepted, str) else None,
            )
        )
        if not made:
            raise errors.user_in_use()
        for each in addresses:
            if not await threepids.add(tx, user_id, each):
                raise errors.threepid_in_use()
        if also is not None:
            await also(tx)
        if session is None:
            return
        token = session.details.get(HELD)
        if not isinstance(token, str):
            await uia_sessions.delete(tx, session.session_id)
        elif await uia_sessions.delete(tx, session.session_id):
            await registration_tokens.complete(tx, token)
        else:
            # Another request has made an account with it a moment ago.
            raise errors.forbidden("This session has ended. Begin again.")
