"""Make an account: what its name may be, who may make one, and the making.

Spec: client-server-api#post_matrixclientv3register
"""

import secrets
import string
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
from homeserver.accounts.store import registration_tokens, uia_sessions, users
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.uia import Uia
from homeserver.db.pool import Database

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


def registration(db: Database, mode: str) -> Uia:
    """What somebody must do to register. Raises: M_FORBIDDEN, when nobody can."""
    if mode == "open":
        return Uia("register", [(uia.DUMMY,)], {uia.DUMMY: uia.check_dummy})
    if mode == "token":
        return Uia(
            "register",
            [(uia.REGISTRATION_TOKEN,)],
            {uia.REGISTRATION_TOKEN: RegistrationTokenStage(db)},
        )
    raise errors.forbidden("Nobody can register on this server.")


async def make_account(
    db: Database,
    user_id: UserId,
    password_hash: str,
    *,
    session: UiaSession | None = None,
    is_admin: bool = False,
    is_guest: bool = False,
) -> None:
    """Make the account, and end the session that allowed it, together.

    `is_guest`: the user has been a guest, and stays.

    Raises: M_USER_IN_USE; the session then goes on, so that another name can be taken.
    """
    async with db.transaction() as tx:
        made = (
            await users.end_guest(tx, user_id, password_hash)
            if is_guest
            else await users.create_user(tx, user_id, password_hash, is_admin=is_admin)
        )
        if not made:
            raise errors.user_in_use()
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
