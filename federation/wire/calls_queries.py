"""Calls to other servers about users, directories, spaces and the server itself.

All calls raise NotReachable, RemoteError or BadResponse (`wire.errors`).

Spec: server-server-api#querying-for-information
"""

from typing import Final

from federation import query_bodies
from federation.canonical_json import JsonObject
from federation.ids import RoomAlias, RoomId, ServerName, UserId
from federation.query_bodies import (
    ClaimedKeys,
    DeviceKeysQuery,
    DirectoryEntry,
    OneTimeKeysClaim,
    PublicRooms,
    PublicRoomsQuery,
    SpaceHierarchy,
    UserDevices,
    UserKeys,
    Version,
)
from federation.wire.client import DEFAULT_LIMITS, Limits, WireClient, path_of
from federation.wire.reading import V1, read

# Keys of many users with many devices.
KEYS_LIMITS: Final = Limits(seconds=30.0, max_bytes=50 * 2**20)


async def get_version(
    client: WireClient, destination: ServerName, limits: Limits = DEFAULT_LIMITS
) -> Version:
    """What software the server runs.

    Spec: server-server-api#get_matrixfederationv1version
    """
    answer = await client.request(
        destination, "GET", f"{V1}/version", signed=False, limits=limits
    )
    return read(destination, answer, query_bodies.parse_version)


async def query_room_directory(
    client: WireClient,
    destination: ServerName,
    room_alias: RoomAlias,
    limits: Limits = DEFAULT_LIMITS,
) -> DirectoryEntry:
    """The room behind an alias of that server.

    Spec: server-server-api#get_matrixfederationv1querydirectory
    """
    answer = await client.request(
        destination,
        "GET",
        f"{V1}/query/directory",
        query=[("room_alias", room_alias)],
        limits=limits,
    )
    return read(destination, answer, query_bodies.parse_directory_entry)


async def query_profile(
    client: WireClient,
    destination: ServerName,
    user_id: UserId,
    field: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> JsonObject:
    """The profile of a user of that server, or one field of it.

    Spec: server-server-api#get_matrixfederationv1queryprofile
    """
    query = [("user_id", str(user_id))]
    if field is not None:
        query.append(("field", field))
    answer = await client.request(
        destination, "GET", f"{V1}/query/profile", query=query, limits=limits
    )
    return read(destination, answer, query_bodies.parse_profile)


async def get_public_rooms(
    client: WireClient,
    destination: ServerName,
    query: PublicRoomsQuery,
    limits: Limits = DEFAULT_LIMITS,
) -> PublicRooms:
    """The server's published rooms. Its search terms and types need the next call.

    Spec: server-server-api#get_matrixfederationv1publicrooms
    """
    parameters = []
    if query.limit is not None:
        parameters.append(("limit", str(query.limit)))
    if query.since is not None:
        parameters.append(("since", query.since))
    if query.include_all_networks:
        parameters.append(("include_all_networks", "true"))
    if query.third_party_instance_id is not None:
        parameters.append(("third_party_instance_id", query.third_party_instance_id))
    answer = await client.request(
        destination, "GET", f"{V1}/publicRooms", query=parameters, limits=limits
    )
    return read(destination, answer, query_bodies.parse_public_rooms)


async def query_public_rooms(
    client: WireClient,
    destination: ServerName,
    query: PublicRoomsQuery,
    limits: Limits = DEFAULT_LIMITS,
) -> PublicRooms:
    """The server's published rooms that match.

    Spec: server-server-api#post_matrixfederationv1publicrooms
    """
    answer = await client.request(
        destination, "POST", f"{V1}/publicRooms", body=query.json, limits=limits
    )
    return read(destination, answer, query_bodies.parse_public_rooms)


async def get_space_hierarchy(
    client: WireClient,
    destination: ServerName,
    room_id: RoomId,
    *,
    suggested_only: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> SpaceHierarchy:
    """A space and its children, one level deep.

    Spec: server-server-api#get_matrixfederationv1hierarchyroomid
    """
    answer = await client.request(
        destination,
        "GET",
        path_of(f"{V1}/hierarchy", room_id),
        query=[("suggested_only", "true" if suggested_only else "false")],
        limits=limits,
    )
    return read(
        destination,
        answer,
        lambda body: query_bodies.parse_space_hierarchy(body, room_id),
    )


async def get_user_devices(
    client: WireClient,
    destination: ServerName,
    user_id: UserId,
    limits: Limits = DEFAULT_LIMITS,
) -> UserDevices:
    """All devices of a user of that server.

    Spec: server-server-api#get_matrixfederationv1userdevicesuserid
    """
    answer = await client.request(
        destination, "GET", path_of(f"{V1}/user/devices", user_id), limits=limits
    )
    return read(
        destination,
        answer,
        lambda body: query_bodies.parse_user_devices(body, user_id),
    )


async def query_user_encryption_keys(
    client: WireClient,
    destination: ServerName,
    users: DeviceKeysQuery,
    limits: Limits = KEYS_LIMITS,
) -> UserKeys:
    """Device and cross-signing keys of users of that server.

    Spec: server-server-api#post_matrixfederationv1userkeysquery
    """
    answer = await client.request(
        destination,
        "POST",
        f"{V1}/user/keys/query",
        body=query_bodies.build_device_keys_query(users),
        limits=limits,
    )
    return read(destination, answer, query_bodies.parse_user_keys)


async def claim_user_encryption_keys(
    client: WireClient,
    destination: ServerName,
    claim: OneTimeKeysClaim,
    limits: Limits = KEYS_LIMITS,
) -> ClaimedKeys:
    """One one-time key for each device of users of that server.

    Spec: server-server-api#post_matrixfederationv1userkeysclaim
    """
    answer = await client.request(
        destination,
        "POST",
        f"{V1}/user/keys/claim",
        body=query_bodies.build_one_time_keys_claim(claim),
        limits=limits,
    )
    return read(destination, answer, query_bodies.parse_claimed_keys)
