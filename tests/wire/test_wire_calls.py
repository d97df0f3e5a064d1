"""One call per operationId: the request it makes, and what it makes of answers."""

import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from wire_support import Wire, answering

from federation.bodies import (
    EventAtTime,
    EventTemplate,
    Invite,
    JoinedRoom,
    MissingEventsQuery,
    RoomState,
    RoomStateIds,
    ThirdPartyInviteExchange,
    Transaction,
    TransactionResult,
)
from federation.edu import Edu
from federation.ids import ServerName
from federation.query_bodies import (
    DirectoryEntry,
    PublicRooms,
    PublicRoomsQuery,
    SpaceHierarchy,
    UserDevices,
    UserKeys,
    Version,
)
from federation.wire import calls, calls_queries, calls_rooms, keys
from federation.wire.client import WireClient
from federation.wire.errors import BadResponse, RemoteError

V1 = "/_matrix/federation/v1"
V2 = "/_matrix/federation/v2"
ROOM = "!room/1:a.test"
ROOM_PATH = "%21room%2F1%3Aa.test"
EVENT = "$event/1:a.test"
EVENT_PATH = "%24event%2F1%3Aa.test"
ALICE = "@alice:us.test"
ALICE_PATH = "%40alice%3Aus.test"
PDU = {"type": "m.room.message"}
SUMMARY = {
    "room_id": ROOM,
    "num_joined_members": 3,
    "world_readable": False,
    "guest_can_join": True,
}


def template(membership: str) -> dict[str, Any]:
    event = {
        "type": "m.room.member",
        "room_id": ROOM,
        "sender": ALICE,
        "state_key": ALICE,
        "content": {"membership": membership},
    }
    return {"room_version": "12", "event": event}


def templated(membership: str) -> EventTemplate:
    return EventTemplate("12", template(membership)["event"])


Call = Callable[[WireClient, ServerName], Awaitable[Any]]


@dataclass
class Case:
    operation: str
    call: Call
    request: str
    answer: Any
    result: Any
    body: Any = None
    signed: bool = True
    # An answer of the wrong shape; None when any object will do.
    wrong: Any = field(default_factory=dict)


TRANSACTION = Transaction("us.test", 5, (PDU,), (Edu("m.x", {}),))
MISSING = MissingEventsQuery((EVENT,), (EVENT,), 20, 1)
QUERY = PublicRoomsQuery(
    limit=3, since="s", include_all_networks=True, third_party_instance_id="irc"
)
EXCHANGE = ThirdPartyInviteExchange(ROOM, ALICE, "@bob:a.test", {})
INVITE = Invite("12", PDU, (PDU,))

CASES = [
    Case(
        "sendTransaction",
        lambda c, a: calls.send_transaction(c, a, "t/1", TRANSACTION),
        f"PUT {V1}/send/t%2F1",
        {"pdus": {EVENT: {}, "$2:a.test": {"error": "no"}}},
        TransactionResult({EVENT: None, "$2:a.test": "no"}),
        body=TRANSACTION.json,
    ),
    Case(
        "backfillRoom",
        lambda c, a: calls.backfill_room(c, a, ROOM, [EVENT, "$2"], 100),
        f"GET {V1}/backfill/{ROOM_PATH}?v={EVENT_PATH}&v=%242&limit=100",
        {"origin": "a.test", "origin_server_ts": 1, "pdus": [PDU] * 60},
        (PDU,) * 60,
    ),
    Case(
        "getMissingPreviousEvents",
        lambda c, a: calls.get_missing_previous_events(c, a, ROOM, MISSING),
        f"POST {V1}/get_missing_events/{ROOM_PATH}",
        {"events": [PDU]},
        (PDU,),
        body=MISSING.json,
    ),
    Case(
        "getEvent",
        lambda c, a: calls.get_event(c, a, EVENT),
        f"GET {V1}/event/{EVENT_PATH}",
        {"origin": "a.test", "origin_server_ts": 1, "pdus": [PDU]},
        PDU,
        wrong={"pdus": []},
    ),
    Case(
        "getRoomState",
        lambda c, a: calls.get_room_state(c, a, ROOM, EVENT),
        f"GET {V1}/state/{ROOM_PATH}?event_id={EVENT_PATH}",
        {"pdus": [PDU], "auth_chain": []},
        RoomState((PDU,), ()),
    ),
    Case(
        "getRoomStateIds",
        lambda c, a: calls.get_room_state_ids(c, a, ROOM, EVENT),
        f"GET {V1}/state_ids/{ROOM_PATH}?event_id={EVENT_PATH}",
        {"pdu_ids": [EVENT], "auth_chain_ids": []},
        RoomStateIds((EVENT,), ()),
        wrong={"pdu_ids": ["x"], "auth_chain_ids": []},
    ),
    Case(
        "getEventAuth",
        lambda c, a: calls.get_event_auth(c, a, ROOM, EVENT),
        f"GET {V1}/event_auth/{ROOM_PATH}/{EVENT_PATH}",
        {"auth_chain": [PDU]},
        (PDU,),
    ),
    Case(
        "getEventByTimestamp",
        lambda c, a: calls.get_event_by_timestamp(c, a, ROOM, 5, "b"),
        f"GET {V1}/timestamp_to_event/{ROOM_PATH}?ts=5&dir=b",
        {"event_id": EVENT, "origin_server_ts": 4},
        EventAtTime(EVENT, 4),
    ),
    Case(
        "askPolicyServerToSign",
        lambda c, a: calls.ask_policy_server_to_sign(c, a, PDU),
        "POST /_matrix/policy/v1/sign",
        {"a.test": {"ed25519:policy_server": "sig"}},
        {"a.test": {"ed25519:policy_server": "sig"}},
        body=PDU,
        wrong={"a.test": 5},
    ),
    Case(
        "makeJoin",
        lambda c, a: calls_rooms.make_join(c, a, ROOM, ALICE, ["1", "12"]),
        f"GET {V1}/make_join/{ROOM_PATH}/{ALICE_PATH}?ver=1&ver=12",
        template("join"),
        templated("join"),
        wrong=template("leave"),
    ),
    Case(
        "makeLeave",
        lambda c, a: calls_rooms.make_leave(c, a, ROOM, ALICE),
        f"GET {V1}/make_leave/{ROOM_PATH}/{ALICE_PATH}",
        template("leave"),
        templated("leave"),
        wrong=template("join"),
    ),
    Case(
        "makeKnock",
        lambda c, a: calls_rooms.make_knock(c, a, ROOM, ALICE, ["12"]),
        f"GET {V1}/make_knock/{ROOM_PATH}/{ALICE_PATH}?ver=12",
        template("knock"),
        templated("knock"),
        wrong=template("join"),
    ),
    Case(
        "sendJoinV2",
        lambda c, a: calls_rooms.send_join_v2(c, a, ROOM, EVENT, PDU),
        f"PUT {V2}/send_join/{ROOM_PATH}/{EVENT_PATH}",
        {"state": [PDU], "auth_chain": [], "event": PDU},
        JoinedRoom((PDU,), (), PDU),
        body=PDU,
    ),
    Case(
        "sendLeaveV2",
        lambda c, a: calls_rooms.send_leave_v2(c, a, ROOM, EVENT, PDU),
        f"PUT {V2}/send_leave/{ROOM_PATH}/{EVENT_PATH}",
        {},
        None,
        body=PDU,
        wrong=None,
    ),
    Case(
        "sendKnock",
        lambda c, a: calls_rooms.send_knock(c, a, ROOM, EVENT, PDU),
        f"PUT {V1}/send_knock/{ROOM_PATH}/{EVENT_PATH}",
        {"knock_room_state": [PDU]},
        (PDU,),
        body=PDU,
    ),
    Case(
        "sendInviteV2",
        lambda c, a: calls_rooms.send_invite_v2(c, a, ROOM, EVENT, INVITE),
        f"PUT {V2}/invite/{ROOM_PATH}/{EVENT_PATH}",
        {"event": PDU},
        PDU,
        body=INVITE.json,
    ),
    Case(
        "sendInviteV1",
        lambda c, a: calls_rooms.send_invite_v1(c, a, ROOM, EVENT, INVITE),
        f"PUT {V1}/invite/{ROOM_PATH}/{EVENT_PATH}",
        [200, {"event": PDU}],
        PDU,
        body=INVITE.v1_json,
        wrong={"event": PDU},
    ),
    Case(
        "exchangeThirdPartyInvite",
        lambda c, a: calls_rooms.exchange_third_party_invite(c, a, EXCHANGE),
        f"PUT {V1}/exchange_third_party_invite/{ROOM_PATH}",
        {},
        None,
        body=EXCHANGE.json,
        wrong=None,
    ),
    Case(
        "getVersion",
        calls_queries.get_version,
        f"GET {V1}/version",
        {"server": {"name": "Hearth", "version": "1"}},
        Version("Hearth", "1"),
        signed=False,
        wrong={"server": []},
    ),
    Case(
        "queryRoomDirectory",
        lambda c, a: calls_queries.query_room_directory(c, a, "#r:a.test"),
        f"GET {V1}/query/directory?room_alias=%23r%3Aa.test",
        {"room_id": ROOM, "servers": ["a.test"]},
        DirectoryEntry(ROOM, ("a.test",)),
    ),
    Case(
        "queryProfile",
        lambda c, a: calls_queries.query_profile(c, a, "@b:a.test", "displayname"),
        f"GET {V1}/query/profile?user_id=%40b%3Aa.test&field=displayname",
        {"displayname": "Bob"},
        {"displayname": "Bob"},
        wrong={"displayname": 5},
    ),
    Case(
        "getPublicRooms",
        lambda c, a: calls_queries.get_public_rooms(c, a, QUERY),
        f"GET {V1}/publicRooms?limit=3&since=s&include_all_networks=true"
        "&third_party_instance_id=irc",
        {"chunk": [SUMMARY]},
        PublicRooms((SUMMARY,)),
    ),
    Case(
        "queryPublicRooms",
        lambda c, a: calls_queries.query_public_rooms(c, a, QUERY),
        f"POST {V1}/publicRooms",
        {"chunk": [SUMMARY], "next_batch": "n"},
        PublicRooms((SUMMARY,), "n"),
        body=QUERY.json,
    ),
    Case(
        "getSpaceHierarchy",
        lambda c, a: calls_queries.get_space_hierarchy(c, a, ROOM, suggested_only=True),
        f"GET {V1}/hierarchy/{ROOM_PATH}?suggested_only=true",
        {
            "room": SUMMARY | {"children_state": []},
            "children": [],
            "inaccessible_children": [],
        },
        SpaceHierarchy(SUMMARY | {"children_state": []}, (), ()),
    ),
    Case(
        "getUserDevices",
        lambda c, a: calls_queries.get_user_devices(c, a, "@b:a.test"),
        f"GET {V1}/user/devices/%40b%3Aa.test",
        {"user_id": "@b:a.test", "stream_id": 5, "devices": []},
        UserDevices("@b:a.test", 5, ()),
    ),
    Case(
        "queryUserEncryptionKeys",
        lambda c, a: calls_queries.query_user_encryption_keys(
            c, a, {"@b:a.test": ("DEV",)}
        ),
        f"POST {V1}/user/keys/query",
        {"device_keys": {"@b:a.test": {"DEV": {}}}},
        UserKeys({"@b:a.test": {"DEV": {}}}, {}, {}),
        body={"device_keys": {"@b:a.test": ["DEV"]}},
    ),
    Case(
        "claimUserEncryptionKeys",
        lambda c, a: calls_queries.claim_user_encryption_keys(
            c, a, {"@b:a.test": {"DEV": "signed_curve25519"}}
        ),
        f"POST {V1}/user/keys/claim",
        {"one_time_keys": {"@b:a.test": {"DEV": {"signed_curve25519:A": {}}}}},
        {"@b:a.test": {"DEV": {"signed_curve25519:A": {}}}},
        body={"one_time_keys": {"@b:a.test": {"DEV": "signed_curve25519"}}},
    ),
    Case(
        "getServerKey",
        keys.get_server_key,
        "GET /_matrix/key/v2/server",
        {"server_name": "a.test"},
        {"server_name": "a.test"},
        signed=False,
        wrong=None,
    ),
    Case(
        "perspectivesKeyQuery",
        lambda c, a: keys.perspectives_key_query(c, a, "b.test:1", 5),
        "GET /_matrix/key/v2/query/b.test%3A1?minimum_valid_until_ts=5",
        {"server_keys": []},
        {"server_keys": []},
        signed=False,
        wrong=None,
    ),
    Case(
        "bulkPerspectivesKeyQuery",
        lambda c, a: keys.bulk_perspectives_key_query(c, a, {"b.test": {"k:a": 5}}),
        "POST /_matrix/key/v2/query",
        {"server_keys": []},
        {"server_keys": []},
        body={"server_keys": {"b.test": {"k:a": {"minimum_valid_until_ts": 5}}}},
        signed=False,
        wrong=None,
    ),
]


@pytest.fixture
async def there(wire: Wire):
    remote = await wire.remote("a.test")
    wire.resolver.hosts["a.test"] = ["127.0.0.1"]
    remote.name = ServerName(f"a.test:{remote.port}")
    return remote


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operation)
async def test_each_call(wire: Wire, there, case: Case) -> None:
    there.handler = answering(case.answer)
    assert await case.call(wire.client(), there.name) == case.result
    (seen,) = there.seen
    assert f"{seen.method} {seen.target}" == case.request
    assert (seen.json if seen.body else None) == case.body
    assert ("Authorization" in seen.headers) is case.signed


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.wrong is not None],
    ids=lambda case: case.operation,
)
async def test_an_answer_of_the_wrong_shape(wire: Wire, there, case: Case) -> None:
    client = wire.client()
    for wrong in (case.wrong, [], "text", None):
        there.handler = answering(wrong)
        with pytest.raises(BadResponse):
            await case.call(client, there.name)
    # The server lives, whatever it says.
    assert client.backoff.export() == ()


async def test_members_are_omitted_when_asked_for(wire: Wire, there) -> None:
    there.handler = answering({"state": [], "auth_chain": []})
    await calls_rooms.send_join_v2(
        wire.client(), there.name, ROOM, EVENT, PDU, omit_members=True
    )
    assert there.seen[0].target.endswith("?omit_members=true")


class TestOldServersWithoutInviteV2:
    async def invites(self, wire: Wire, there, version: str, status: int) -> Any:
        async def handle(request):
            if request.path.startswith(V2):
                error = {"errcode": "M_UNRECOGNIZED"}
                return await answering(error, status)(request)
            return await answering([200, {"event": PDU}])(request)

        there.handler = handle
        invite = Invite(version, PDU, (PDU,))
        return await calls_rooms.send_invite_v2(
            wire.client(), there.name, ROOM, EVENT, invite
        )

    @pytest.mark.parametrize("version", ["1", "2"])
    @pytest.mark.parametrize("status", [400, 404])
    async def test_get_version_1_of_the_endpoint(
        self, wire, there, version, status
    ) -> None:
        assert await self.invites(wire, there, version, status) == PDU
        assert there.seen[1].target == f"{V1}/invite/{ROOM_PATH}/{EVENT_PATH}"
        assert there.seen[1].json["unsigned"] == {"invite_room_state": [PDU]}

    @pytest.mark.parametrize(("version", "status"), [("3", 404), ("1", 403)])
    async def test_only_where_it_helps(self, wire, there, version, status) -> None:
        with pytest.raises(RemoteError):
            await self.invites(wire, there, version, status)
        assert len(there.seen) == 1


SPEC = Path(
    os.environ.get("MATRIX_SPEC") or Path(__file__).parents[3] / "shared" / "spec"
)
# Made by clients or identity servers, not by servers; or a part of discovery.
NOT_CALLED = {
    "getWellKnown",
    "onBindThirdPartyIdentifier",
    "exchangeOpenIdToken",
    # Any query type beside directory and profile; the specification defines none.
    "queryInfo",
    # Media are no JSON.
    "getContent",
    "getContentThumbnail",
}


@pytest.mark.skipif(not SPEC.is_dir(), reason="the specification is not here")
def test_every_operation_has_its_call_with_its_method_and_path() -> None:
    asked = {case.operation: case.request.partition("?")[0] for case in CASES}
    for line in (SPEC / "endpoints.tsv").read_text().splitlines()[1:]:
        api, method, path, operation, auth, *_ = line.split("\t")
        if api != "server-server" or operation in NOT_CALLED:
            continue
        pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(f"{method} {path}"))
        assert re.fullmatch(pattern, asked.pop(operation)), operation
        case = next(case for case in CASES if case.operation == operation)
        assert case.signed == (auth != "none"), operation
    assert asked == {}


def test_a_call_is_named_after_its_operation() -> None:
    modules = (calls, calls_rooms, calls_queries, keys)
    for case in CASES:
        name = re.sub(r"(?<!^)([A-Z])", r"_\1", case.operation).lower()
        assert any(hasattr(module, name) for module in modules), name
