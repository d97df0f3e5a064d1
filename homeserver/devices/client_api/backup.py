"""Endpoints about backups of room keys.

Spec: client-server-api#server-side-key-backups
"""

from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec
import orjson

from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import RoomId, UserId, parse_room_id
from homeserver import errors
from homeserver.context import Context
from homeserver.db.pool import Tx
from homeserver.devices import checks
from homeserver.devices.store import backup as store
from homeserver.devices.store.backup import Backup, Session
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer, Stream
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route

ROOM_KEYS: Final = "/_matrix/client/v3/room_keys"
KEYS: Final = ROOM_KEYS + "/keys"
OF_ROOM: Final = KEYS + "/{roomId}"
OF_SESSION: Final = OF_ROOM + "/{sessionId}"
ALGORITHM: Final = "m.megolm_backup.v1.curve25519-aes-sha2"
MAX_BODY: Final = 16 * 1024 * 1024
MAX_AUTH_DATA: Final = 64 * 1024


class _Version(msgspec.Struct):
    algorithm: str
    auth_data: dict[str, object]
    version: str | None = None


class _Key(msgspec.Struct):
    first_message_index: int
    forwarded_count: int
    is_verified: bool
    session_data: dict[str, object]


class _Room(msgspec.Struct):
    sessions: dict[str, _Key]


class _Rooms(msgspec.Struct):
    rooms: dict[str, _Room]


# ── Versions ─────────────────────────────────────────────────────────────────────────


@route("POST", ROOM_KEYS + "/version", auth=by_access_token, limit=writes, since="1.1")
async def post_room_keys_version(ctx: Context, request: ClientRequest) -> Answer:
    """Begin a new backup, which then is the current one.

    Raises: M_BAD_JSON, M_INVALID_PARAM.

    Spec: client-server-api#post_matrixclientv3room_keysversion
    """
    body = request.body(_Version)
    if body.algorithm != ALGORITHM:
        raise errors.invalid_param("algorithm: this one is not known.")
    async with ctx.db.transaction() as tx:
        version = await store.create(
            tx, request.user_id, body.algorithm, _auth_data(body)
        )
    return {"version": str(version)}


def _auth_data(body: _Version) -> str:
    text = orjson.dumps(body.auth_data)
    if len(text) > MAX_AUTH_DATA:
        raise errors.too_large(f"auth_data: at most {MAX_AUTH_DATA} bytes.")
    return text.decode()


def _no_such_backup() -> errors.MatrixError:
    return errors.not_found("There is no such backup.")


def _number(version: str) -> int:
    """The number of a version. Raises: M_NOT_FOUND."""
    if not (version.isascii() and version.isdecimal() and len(version) <= 18):
        raise _no_such_backup()
    return int(version)


def _shown(backup: Backup | None) -> JsonObject:
    if backup is None:
        raise _no_such_backup()
    return {
        "algorithm": backup.algorithm,
        "auth_data": orjson.loads(backup.auth_data),
        "count": backup.count,
        "etag": str(backup.etag),
        "version": str(backup.version),
    }


@route("GET", ROOM_KEYS + "/version", auth=by_access_token, since="1.1")
async def get_room_keys_version_current(ctx: Context, request: ClientRequest) -> Answer:
    """The current backup. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3room_keysversion
    """
    async with ctx.db.read() as tx:
        return _shown(await store.current(tx, request.user_id))


@route("GET", ROOM_KEYS + "/version/{version}", auth=by_access_token, since="1.1")
async def get_room_keys_version(ctx: Context, request: ClientRequest) -> Answer:
    """One backup. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3room_keysversionversion
    """
    version = _number(request.path(str, "version"))
    async with ctx.db.read() as tx:
        return _shown(await store.find(tx, request.user_id, version))


@route(
    "PUT",
    ROOM_KEYS + "/version/{version}",
    auth=by_access_token,
    limit=writes,
    since="1.1",
)
async def put_room_keys_version(ctx: Context, request: ClientRequest) -> Answer:
    """Replace a backup's `auth_data`. Raises: M_NOT_FOUND, M_INVALID_PARAM.

    Spec: client-server-api#put_matrixclientv3room_keysversionversion
    """
    body = request.body(_Version)
    path_version = request.path(str, "version")
    version = _number(path_version)
    if body.version is not None and body.version != path_version:
        raise errors.invalid_param("version: this is not the version in the path.")
    async with ctx.db.transaction() as tx:
        backup = await store.lock(tx, request.user_id, version)
        if backup is None:
            raise _no_such_backup()
        if body.algorithm != backup.algorithm:
            raise errors.invalid_param("algorithm: the backup has another one.")
        await store.set_auth_data(tx, request.user_id, version, _auth_data(body))
    return {}


@route(
    "DELETE",
    ROOM_KEYS + "/version/{version}",
    auth=by_access_token,
    limit=writes,
    since="1.1",
)
async def delete_room_keys_version(ctx: Context, request: ClientRequest) -> Answer:
    """Delete a backup and its keys, also a second time. Raises: M_NOT_FOUND.

    Spec: client-server-api#delete_matrixclientv3room_keysversionversion
    """
    version = _number(request.path(str, "version"))
    async with ctx.db.transaction() as tx:
        if not await store.delete_version(tx, request.user_id, version):
            raise _no_such_backup()
    return {}


# ── Storing keys ─────────────────────────────────────────────────────────────────────


def _session(room_id: RoomId, session_id: str, key: _Key) -> Session:
    checks.check_name(session_id, "session ID")
    if not session_id or key.first_message_index < 0 or key.forwarded_count < 0:
        raise errors.invalid_param("A session has an ID and no negative numbers.")
    return Session(
        room_id,
        session_id,
        key.first_message_index,
        key.forwarded_count,
        key.is_verified,
        orjson.dumps(key.session_data).decode(),
    )


def _of_room(room_id: RoomId, sessions: Mapping[str, _Key]) -> list[Session]:
    return [_session(room_id, *each) for each in sessions.items()]


async def _put(ctx: Context, request: ClientRequest, sessions: list[Session]) -> Answer:
    """Store keys in the current backup.

    Raises: M_WRONG_ROOM_KEYS_VERSION, M_NOT_FOUND, M_TOO_LARGE.
    """
    named = request.query_required("version")
    user_id = request.user_id
    async with ctx.db.transaction() as tx:
        current = await store.current(tx, user_id)
        if current is None:
            raise _no_such_backup()
        if named != str(current.version):
            raise errors.wrong_room_keys_version(str(current.version))
        backup = await store.lock(tx, user_id, current.version)
        if backup is None:  # deleted in this moment
            raise _no_such_backup()
        if backup.count + len(sessions) > store.MAX_SESSIONS:
            raise errors.too_large("The backup is full.")
        return _state(await store.put(tx, user_id, backup.version, sessions))


def _state(backup: Backup) -> JsonObject:
    return {"count": backup.count, "etag": str(backup.etag)}


@route(
    "PUT",
    OF_SESSION,
    auth=by_access_token,
    limit=writes,
    since="1.1",
)
async def put_room_key_by_session_id(ctx: Context, request: ClientRequest) -> Answer:
    """Store one key. Raises: M_WRONG_ROOM_KEYS_VERSION, M_NOT_FOUND, M_INVALID_PARAM.

    Spec: client-server-api#put_matrixclientv3room_keyskeysroomidsessionid
    """
    room_id, session_id = request.path(RoomId, "roomId"), request.path(str, "sessionId")
    session = _session(room_id, session_id, request.body(_Key))
    return await _put(ctx, request, [session])


@route(
    "PUT",
    OF_ROOM,
    auth=by_access_token,
    limit=writes,
    max_body=MAX_BODY,
    since="1.1",
)
async def put_room_keys_by_room_id(ctx: Context, request: ClientRequest) -> Answer:
    """Store keys of a room. Raises: as for one key.

    Spec: client-server-api#put_matrixclientv3room_keyskeysroomid
    """
    room_id = request.path(RoomId, "roomId")
    return await _put(ctx, request, _of_room(room_id, request.body(_Room).sessions))


@route(
    "PUT",
    KEYS,
    auth=by_access_token,
    limit=writes,
    max_body=MAX_BODY,
    since="1.1",
)
async def put_room_keys(ctx: Context, request: ClientRequest) -> Answer:
    """Store keys of many rooms. Raises: as for one key.

    Spec: client-server-api#put_matrixclientv3room_keyskeys
    """
    sessions: list[Session] = []
    for name, room in request.body(_Rooms).rooms.items():
        try:
            room_id = parse_room_id(name)
        except Malformed as error:
            raise errors.invalid_param(f"rooms: {error}.") from None
        sessions += _of_room(room_id, room.sessions)
    return await _put(ctx, request, sessions)


# ── Reading and deleting keys ────────────────────────────────────────────────────────


def _data(session: Session) -> JsonObject:
    return {
        "first_message_index": session.first_message_index,
        "forwarded_count": session.forwarded_count,
        "is_verified": session.is_verified,
        "session_data": orjson.loads(session.session_data),
    }


async def _version(tx: Tx, request: ClientRequest) -> int:
    """The backup that the query names. Raises: M_NOT_FOUND, M_MISSING_PARAM."""
    version = _number(request.query_required("version"))
    if await store.find(tx, request.user_id, version) is None:
        raise _no_such_backup()
    return version


@route("GET", OF_SESSION, auth=by_access_token, since="1.1")
async def get_room_key_by_session_id(ctx: Context, request: ClientRequest) -> Answer:
    """One key. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3room_keyskeysroomidsessionid
    """
    room_id, session_id = request.path(RoomId, "roomId"), request.path(str, "sessionId")
    async with ctx.db.read() as tx:
        version = await _version(tx, request)
        found = await store.sessions(tx, request.user_id, version, room_id, session_id)
    if not found:
        raise errors.not_found("The backup has no such key.")
    return _data(found[0])


@route("GET", OF_ROOM, auth=by_access_token, since="1.1")
async def get_room_keys_by_room_id(ctx: Context, request: ClientRequest) -> Answer:
    """The keys of a room. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3room_keyskeysroomid
    """
    room_id = request.path(RoomId, "roomId")
    async with ctx.db.read() as tx:
        version = await _version(tx, request)
    sessions: JsonObject = {}
    async for each in _sessions(ctx, request.user_id, version, room_id):
        sessions[each.session_id] = _data(each)
    return {"sessions": sessions}


@route("GET", KEYS, auth=by_access_token, since="1.1")
async def get_room_keys(ctx: Context, request: ClientRequest) -> Answer:
    """All keys. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3room_keyskeys
    """
    async with ctx.db.read() as tx:
        version = await _version(tx, request)
    return Stream(_all_keys(ctx, request.user_id, version))


async def _all_keys(
    ctx: Context, user_id: UserId, version: int
) -> AsyncIterator[bytes]:
    """The answer in pieces: a backup may be larger than a process should hold."""
    yield b'{"rooms":{'
    room_id = ""
    async for each in _sessions(ctx, user_id, version, None):
        piece = b","
        if each.room_id != room_id:
            piece = b"}}," if room_id else b""
            piece += orjson.dumps(each.room_id) + b':{"sessions":{'
            room_id = each.room_id
        piece += orjson.dumps(each.session_id) + b":" + orjson.dumps(_data(each))
        yield piece
    yield b"}}}}" if room_id else b"}}"


async def _sessions(
    ctx: Context, user_id: UserId, version: int, room_id: RoomId | None
) -> AsyncIterator[Session]:
    """Keys page by page."""
    after = ("", "")
    while True:
        async with ctx.db.read() as tx:
            page = await store.sessions(tx, user_id, version, room_id, None, after)
        for each in page:
            yield each
        if len(page) < store.PAGE:
            return
        after = (page[-1].room_id, page[-1].session_id)


async def _delete(
    ctx: Context, request: ClientRequest, room_id: str | None, session_id: str | None
) -> Answer:
    async with ctx.db.transaction() as tx:
        version = await _version(tx, request)
        if await store.lock(tx, request.user_id, version) is None:
            raise _no_such_backup()
        return _state(
            await store.delete(tx, request.user_id, version, room_id, session_id)
        )


@route("DELETE", OF_SESSION, auth=by_access_token, limit=writes, since="1.1")
async def delete_room_key_by_session_id(ctx: Context, request: ClientRequest) -> Answer:
    """Delete one key. Raises: M_NOT_FOUND.

    Spec: client-server-api#delete_matrixclientv3room_keyskeysroomidsessionid
    """
    room_id = request.path(RoomId, "roomId")
    return await _delete(ctx, request, room_id, request.path(str, "sessionId"))


@route("DELETE", OF_ROOM, auth=by_access_token, limit=writes, since="1.1")
async def delete_room_keys_by_room_id(ctx: Context, request: ClientRequest) -> Answer:
    """Delete the keys of a room. Raises: M_NOT_FOUND.

    Spec: client-server-api#delete_matrixclientv3room_keyskeysroomid
    """
    return await _delete(ctx, request, request.path(RoomId, "roomId"), None)


@route("DELETE", KEYS, auth=by_access_token, limit=writes, since="1.1")
async def delete_room_keys(ctx: Context, request: ClientRequest) -> Answer:
    """Delete all keys. Raises: M_NOT_FOUND.

    Spec: client-server-api#delete_matrixclientv3room_keyskeys
    """
    return await _delete(ctx, request, None, None)
