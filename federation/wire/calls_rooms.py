"""Calls to other servers that join, leave, knock on and invite to rooms.

A template (`make_*`) that comes back has passed the checks that the specification
makes before it is signed. All calls raise NotReachable, RemoteError or BadResponse.

Spec: server-server-api#joining-rooms
"""

from collections.abc import Iterable
from typing import Final

from federation import bodies
from federation.bodies import (
    EventTemplate,
    Invite,
    JoinedRoom,
    ThirdPartyInviteExchange,
)
from federation.canonical_json import JsonObject
from federation.ids import EventId, RoomId, ServerName, UserId
from federation.wire.client import DEFAULT_LIMITS, Limits, WireClient, path_of
from federation.wire.errors import RemoteError
from federation.wire.reading import ROOM_LIMITS, V1, V2, read, read_v1

# "the server may be older, if the room version is '1' or '2'"
_VERSIONS_WITH_V1_INVITES: Final = frozenset({"1", "2"})


async def _make(
    client: WireClient,
    destination: ServerName,
    operation: str,
    room_id: RoomId,
    user_id: UserId,
    membership: str,
    versions: Iterable[str],
    limits: Limits,
) -> EventTemplate:
    answer = await client.request(
        destination,
        "GET",
        path_of(f"{V1}/{operation}", room_id, user_id),
        query=[("ver", version) for version in versions],
        limits=limits,
    )
    return read(
        destination,
        answer,
        lambda body: bodies.parse_event_template(body, room_id, user_id, membership),
    )


async def make_join(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    user_id: UserId,
    versions: Iterable[str],
    limits: Limits = DEFAULT_LIMITS,
) -> EventTemplate:
    """A join to complete and sign; `versions` are the room versions that we know.

    Spec: server-server-api#get_matrixfederationv1make_joinroomiduserid
    """
    return await _make(
        client, destination, "make_join", room_id, user_id, "join", versions, limits
    )


async def make_leave(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    user_id: UserId,
    limits: Limits = DEFAULT_LIMITS,
) -> EventTemplate:
    """A leave to complete and sign, to refuse an invite or to take back a knock.

    Spec: server-server-api#get_matrixfederationv1make_leaveroomiduserid
    """
    return await _make(
        client, destination, "make_leave", room_id, user_id, "leave", (), limits
    )


async def make_knock(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    user_id: UserId,
    versions: Iterable[str],
    limits: Limits = DEFAULT_LIMITS,
) -> EventTemplate:
    """A knock to complete and sign; `versions` are the room versions that we know.

    Spec: server-server-api#get_matrixfederationv1make_knockroomiduserid
    """
    return await _make(
        client, destination, "make_knock", room_id, user_id, "knock", versions, limits
    )


async def send_join_v2(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    event: JsonObject,
    *,
    omit_members: bool = False,
    limits: Limits = ROOM_LIMITS,
) -> JoinedRoom:
    """Hand in the signed join; get the room's state before it.

    Spec: server-server-api#put_matrixfederationv2send_joinroomideventid
    """
    answer = await client.request(
        destination,
        "PUT",
        path_of(f"{V2}/send_join", room_id, event_id),
        query=[("omit_members", "true")] if omit_members else [],
        body=event,
        limits=limits,
    )
    return read(destination, answer, bodies.parse_joined_room)


async def send_leave_v2(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    event: JsonObject,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Hand in the signed leave.

    Spec: server-server-api#put_matrixfederationv2send_leaveroomideventid
    """
    await client.request(
        destination,
        "PUT",
        path_of(f"{V2}/send_leave", room_id, event_id),
        body=event,
        limits=limits,
    )


async def send_knock(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    event: JsonObject,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[JsonObject, ...]:
    """Hand in the signed knock; get events that describe the room.

    Spec: server-server-api#put_matrixfederationv1send_knockroomideventid
    """
    answer = await client.request(
        destination,
        "PUT",
        path_of(f"{V1}/send_knock", room_id, event_id),
        body=event,
        limits=limits,
    )
    return read(destination, answer, bodies.parse_knock_room_state)


async def send_invite_v2(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    invite: Invite,
    limits: Limits = DEFAULT_LIMITS,
) -> JsonObject:
    """Ask the invited user's server to sign an invite; the signed event comes back.

    "Senders which receive a 400 or 404 response to this endpoint should retry using
    the v1 API as the server may be older, if the room version is '1' or '2'."

    Spec: server-server-api#put_matrixfederationv2inviteroomideventid
    """
    try:
        answer = await client.request(
            destination,
            "PUT",
            path_of(f"{V2}/invite", room_id, event_id),
            body=invite.json,
            limits=limits,
        )
    except RemoteError as error:
        if (
            error.status in (400, 404)
            and invite.room_version in _VERSIONS_WITH_V1_INVITES
        ):
            return await send_invite_v1(
                client, destination, room_id, event_id, invite, limits
            )
        raise
    return read(destination, answer, bodies.parse_signed_event)


async def send_invite_v1(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    event_id: EventId,
    invite: Invite,
    limits: Limits = DEFAULT_LIMITS,
) -> JsonObject:
    """The same for servers that know no other; only for room versions 1 and 2.

    Spec: server-server-api#put_matrixfederationv1inviteroomideventid
    """
    answer = await client.request(
        destination,
        "PUT",
        path_of(f"{V1}/invite", room_id, event_id),
        body=invite.v1_json,
        limits=limits,
    )
    return read_v1(destination, answer, bodies.parse_signed_event)


async def exchange_third_party_invite(
    client: WireClient,
    destination: ServerName,
    exchange: ThirdPartyInviteExchange,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Ask a server in the room to invite a user who has bound an identifier.

    Spec: server-server-api#put_matrixfederationv1exchange_third_party_inviteroomid
    """
    await client.request(
        destination,
        "PUT",
        path_of(f"{V1}/exchange_third_party_invite", exchange.room_id),
        body=exchange.json,
        limits=limits,
    )
