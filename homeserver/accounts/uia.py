"""User-interactive authentication: stages to go through before an operation is done.

Laws. A session belongs to one operation of one user and ends with its success. A stage
counts when it is the next one of a flow that begins with what is completed; a completed
stage is not tried again. Nothing is stored until it is needed: a client that brings all
of a one-stage flow at once never has a session.

Spec: client-server-api#user-interactive-authentication-api
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts import tokens
from homeserver.accounts.store import uia_sessions
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.db.pool import Database
from homeserver.errors import MatrixError

LIFETIME: Final = timedelta(hours=1)

PASSWORD: Final = "m.login.password"  # noqa: S105 - names of stages
DUMMY: Final = "m.login.dummy"
SSO: Final = "m.login.sso"
REGISTRATION_TOKEN: Final = "m.login.registration_token"  # noqa: S105

# Checks what the client sent for a stage, and may keep things in the session's details.
# Raises MatrixError when it does not satisfy. True: the session must be stored, since
# something has been set aside for it.
Stage = Callable[[JsonObject, UiaSession], Awaitable[bool]]


class AuthenticationNeeded(MatrixError):  # noqa: N818 - reads as a sentence
    """401 with the flows, and with an error when a stage was tried in vain."""

    def __init__(self, body: JsonObject, refused: MatrixError | None = None) -> None:
        super().__init__(401, "M_FORBIDDEN", "Authenticate, as `flows` says.")
        self._body = body
        if refused is not None:
            self._body = {**refused.body(), **body}

    def body(self) -> JsonObject:
        """The JSON object of the response; no errcode where nothing went wrong."""
        return self._body


@dataclass(frozen=True, slots=True)
class Uia:
    """What an operation asks for: flows of stages, and how to check each."""

    operation: str
    flows: Sequence[Sequence[str]]
    stages: Mapping[str, Stage]
    params: Mapping[str, JsonObject] = field(default_factory=dict)

    async def authenticate(
        self, db: Database, auth: object, user_id: UserId | None = None
    ) -> UiaSession:
        """Go one step further; returns when a flow is complete.

        `auth` is what the body holds under that name. Whoever did the operation then
        calls `finish`.

        Raises: AuthenticationNeeded (401) until then; M_BAD_JSON.
        """
        if auth is None:
            raise await self._ask(db, self._new_session(user_id))
        if not isinstance(auth, dict):
            raise errors.bad_json("auth: a JSON object is needed.")
        session, is_stored = await self._session(db, auth, user_id)
        kind = auth.get("type")
        if kind is not None and kind not in session.completed:
            is_stored |= await self._try(db, session, kind, auth)
        if not self._is_complete(session):
            raise await self._ask(db, session)
        if is_stored:
            await self._save(db, session)
        return session

    async def _session(
        self, db: Database, auth: JsonObject, user_id: UserId | None
    ) -> tuple[UiaSession, bool]:
        """The client's session, or a new one; and whether it is stored already."""
        session_id = auth.get("session")
        if session_id is None:
            return self._new_session(user_id), False
        if not isinstance(session_id, str):
            raise errors.bad_json("auth.session: a string is needed.")
        found = None
        if "\0" not in session_id:
            async with db.transaction() as tx:
                found = await uia_sessions.session(tx, session_id, LIFETIME)
        if (
            found is None
            or found.operation != self.operation
            or found.user_id != user_id
        ):
            refused = errors.unknown("This session has ended. Begin again.")
            raise await self._ask(db, self._new_session(user_id), refused)
        return found, True

    async def _try(
        self, db: Database, session: UiaSession, kind: object, auth: JsonObject
    ) -> bool:
        """Check a stage that is next in a flow."""
        if not isinstance(kind, str) or not is_next(self.flows, session, kind):
            refused = errors.forbidden("This is not the next stage of a flow.")
            raise await self._ask(db, session, refused)
        try:
            must_store = await self.stages[kind](auth, session)
        except MatrixError as refused:
            if refused.status in (429, 503):
                raise
            raise await self._ask(db, session, refused) from None
        session.completed.append(kind)
        return must_store

    def _is_complete(self, session: UiaSession) -> bool:
        return any(list(flow) == session.completed for flow in self.flows)

    def _new_session(self, user_id: UserId | None) -> UiaSession:
        return UiaSession(
            tokens.new_session_id(),
            self.operation,
            user_id,
            [],
            {},
            [list(flow) for flow in self.flows],
        )

    async def _save(self, db: Database, session: UiaSession) -> None:
        async with db.transaction() as tx:
            await uia_sessions.save(tx, session)

    async def _ask(
        self, db: Database, session: UiaSession, refused: MatrixError | None = None
    ) -> AuthenticationNeeded:
        """Store the session, and what to tell the client."""
        await self._save(db, session)
        body: JsonObject = {
            "flows": [{"stages": list(flow)} for flow in self.flows],
            "params": dict(self.params),
            "session": session.session_id,
        }
        if session.completed:
            body["completed"] = list(session.completed)
        return AuthenticationNeeded(body, refused)


def is_next(flows: Sequence[Sequence[str]], session: UiaSession, kind: str) -> bool:
    """Whether a flow that begins with what is completed goes on with this stage."""
    done = len(session.completed)
    return any(
        list(flow[:done]) == session.completed and list(flow[done : done + 1]) == [kind]
        for flow in flows
    )


async def find(db: Database, session_id: str) -> UiaSession | None:
    """The session, for the fallback pages; None when it has run out."""
    if "\0" in session_id:
        return None
    async with db.transaction() as tx:
        return await uia_sessions.session(tx, session_id, LIFETIME)


async def complete(db: Database, session: UiaSession, kind: str) -> None:
    """A stage was passed on a fallback page: the client finds it completed."""
    async with db.transaction() as tx:
        stored = await uia_sessions.session(tx, session.session_id, LIFETIME)
        if stored is None:
            raise errors.not_found("This session has ended. Begin again.")
        if is_next(stored.flows, stored, kind):
            stored.completed.append(kind)
        stored.details.update(session.details)
        await uia_sessions.save(tx, stored)


async def keep(db: Database, session: UiaSession) -> None:
    """Store what has been noted in a session's details."""
    async with db.transaction() as tx:
        await uia_sessions.save(tx, session)


async def finish(db: Database, session: UiaSession) -> None:
    """The operation is done: the session is good for nothing more."""
    async with db.transaction() as tx:
        await uia_sessions.delete(tx, session.session_id)


async def check_dummy(_auth: JsonObject, _session: UiaSession) -> bool:
    """Always satisfied. Spec: client-server-api#dummy-auth."""
    return False
