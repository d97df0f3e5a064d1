"""Open, refresh and end a user's sessions: devices and their tokens.

Spec: client-server-api#relationship-between-access-tokens-and-devices
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from federation.ids import DeviceId, UserId
from homeserver import errors
from homeserver.accounts import tokens
from homeserver.accounts.store import devices, sign_ons
from homeserver.accounts.store import tokens as store
from homeserver.clock import Clock
from homeserver.db.pool import Database
from homeserver.live.changes import Change, Kind
from homeserver.live.live import Live

# Of access tokens that can be refreshed; others do not run out.
ACCESS_LIFETIME: Final = timedelta(hours=1)
# In which a refresh token that was replaced may come again without harm.
REUSE_GRACE: Final = timedelta(minutes=1)
MAX_DEVICE_ID: Final = 255
MAX_DISPLAY_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class Session:
    """What a client gets when it has logged in."""

    user_id: UserId
    device_id: DeviceId
    access_token: str
    refresh_token: str | None = None
    expires_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    access_token: str
    refresh_token: str | None
    expires_at: datetime | None

    @property
    def expires_in_ms(self) -> int | None:
        if self.expires_at is None:
            return None
        return int(ACCESS_LIFETIME.total_seconds() * 1000)

    def row(
        self,
        user_id: UserId,
        device_id: DeviceId,
        display_name: str | None,
        ip: str | None = None,
    ) -> store.NewSession:
        return store.NewSession(
            user_id,
            device_id,
            display_name,
            tokens.hash_of(self.access_token),
            self.expires_at,
            tokens.hash_of(self.refresh_token) if self.refresh_token else None,
            ip,
        )


def _new_pair(clock: Clock, *, can_refresh: bool) -> _Pair:
    access_token = tokens.new_token(tokens.ACCESS)
    if not can_refresh:
        return _Pair(access_token, None, None)
    now = datetime.fromtimestamp(clock.ms() / 1000, UTC)
    return _Pair(access_token, tokens.new_token(tokens.REFRESH), now + ACCESS_LIFETIME)


def check_device(device_id: str | None, display_name: str | None) -> None:
    """Refuse a device ID or name that cannot be kept. Raises: M_INVALID_PARAM."""
    if device_id is not None:
        size = len(device_id.encode("utf-8", "surrogatepass"))
        if not 0 < size <= MAX_DEVICE_ID or "\0" in device_id:
            raise errors.invalid_param(
                f"A device ID has 1 to {MAX_DEVICE_ID} bytes and no U+0000."
            )
    if display_name is not None and len(display_name) > MAX_DISPLAY_NAME:
        raise errors.invalid_param(
            f"A device's name can have at most {MAX_DISPLAY_NAME} characters."
        )


async def open_session(
    live: Live,
    clock: Clock,
    user_id: UserId,
    *,
    device_id: str | None = None,
    display_name: str | None = None,
    can_refresh: bool = False,
    ip: str | None = None,
) -> Session:
    """Log a device in: a known one, whose tokens end with this, or a new one.

    Raises: M_INVALID_PARAM, when the device ID cannot be one.
    """
    check_device(device_id, display_name)
    device = DeviceId(device_id) if device_id is not None else tokens.new_device_id()
    pair = _new_pair(clock, can_refresh=can_refresh)
    await live.commit(
        store.open_sessions,
        pair.row(user_id, device, display_name, ip),
        Change(Kind.TOKENS, user_id=user_id),
    )
    return Session(
        user_id, device, pair.access_token, pair.refresh_token, pair.expires_in_ms
    )


async def refresh_session(db: Database, clock: Clock, refresh_token: str) -> Session:
    """A new pair of tokens for an old refresh token.

    The old one stays good until one of the new pair is used; what it replaced itself
    ends now.

    Raises: M_UNKNOWN_TOKEN. Spec: client-server-api#refreshing-access-tokens
    """
    refused = errors.unknown_token("The refresh token is not known. Log in again.")
    if not tokens.is_well_formed(refresh_token):
        raise refused
    old_hash = tokens.hash_of(refresh_token)
    pair = _new_pair(clock, can_refresh=True)
    async with db.transaction() as tx:
        old = await store.take_refresh_token(tx, old_hash)
        if old is None:
            raise refused
        if old.replaces is not None:
            await store.revoke_replaced(tx, old_hash)
        await store.replace_pair(
            tx, old_hash, pair.row(old.user_id, old.device_id, None)
        )
    return Session(
        old.user_id,
        old.device_id,
        pair.access_token,
        pair.refresh_token,
        pair.expires_in_ms,
    )


async def end_if_stolen(live: Live, db: Database, refresh_token: str) -> None:
    """End the session of a refresh token that was replaced and comes again.

    One of the two who have it has stolen it, and nobody can tell which. The device
    stays, so that its owner logs in again with all its keys.
    """
    async with db.read() as tx:
        found = await store.stolen_from(tx, tokens.hash_of(refresh_token), REUSE_GRACE)
    if found is not None:
        await live.commit(
            store.end_tokens, found, Change(Kind.TOKENS, user_id=found[0])
        )


async def rests_on(
    live: Live, db: Database, session: Session, sign_on: int | None
) -> bool:
    """Note through which log-in elsewhere the session began, if through one.

    False: that has ended meanwhile, and so has the session now.
    """
    async with db.transaction() as tx:
        if await sign_ons.note_device(tx, session.user_id, session.device_id, sign_on):
            return True
    await end_sessions(live, session.user_id, (session.device_id,))
    return False


async def end_sessions(
    live: Live,
    user_id: UserId,
    device_ids: tuple[DeviceId, ...] | None,
    *,
    keep: DeviceId | None = None,
) -> None:
    """Delete devices and their tokens; None: all of the user's but `keep`.

    Spec: client-server-api#post_matrixclientv3logout
    """
    removal = devices.Removal(user_id, device_ids, keep)
    await live.commit(
        devices.remove,
        removal,
        Change(Kind.TOKENS, user_id=user_id, reach=removal.reach),
    )
