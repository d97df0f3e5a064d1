"""Another server, made of `federation/` alone: it can do all that is right, and lie.

peer = await world.peer()
room = await peer.joins(site, room_id, "mallory")
event = room.event("m.room.message", {"body": "hello"})
results = await room.pushes(event)
"""

import contextlib
import ipaddress
import itertools
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from federation import auth_rules, server_keys, signatures
from federation.bodies import EventTemplate, Transaction
from federation.edu import Edu
from federation.ids import EventId, RoomId, ServerName, UserId
from federation.pdu import Pdu, parse_pdu, reference_pairs
from federation.room_versions import ROOM_VERSIONS, EventIdFormat, RoomVersion
from federation.signatures import SigningKey
from federation.wire import calls, calls_rooms
from federation.wire.client import WireClient
from federation.wire.options import WireOptions
from homeserver.demo.certificates import CertificateAuthority
from tests.support.homeserver import HOST

Json = dict[str, Any]
# What a scripted endpoint does: from the request to a status and a body.
Script = Callable[[web.Request], Any]
_numbers = itertools.count(1)
_NOW_MS = 1_700_000_000_000


class Peer:
    """One server of the federation under the test's control.

    `answers` scripts its endpoints by the beginning of the path after
    `/_matrix/federation/`; `received` are the transactions that it was sent.
    """

    def __init__(
        self,
        authority: CertificateAuthority,
        directory: Path,
        ca_file: Path | None = None,
    ) -> None:
        self.port = 0  # the first start finds a free one, which it keeps
        self.name = ServerName("localhost")
        self.key = SigningKey.generate("peer")
        self.answers: dict[str, Script] = {}
        self.received: list[Json] = []
        self.asked: list[str] = []
        self.events: dict[str, Json] = {}
        self.valid_until_ts = 2_000_000_000_000
        directory.mkdir(exist_ok=True)
        certificate, key = authority.issue(directory, "localhost", HOST)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._ca_file = ca_file or authority.write_ca(directory / "ca.pem")
        self._runner: web.AppRunner | None = None
        self.wire: WireClient

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        self.name = ServerName(f"localhost:{self.port}")
        self.wire = WireClient(
            self.name,
            self.key,
            WireOptions(
                ca_file=str(self._ca_file),
                allow_addresses=(ipaddress.ip_network("127.0.0.0/8"),),
            ),
        )

    async def stop(self) -> None:
        await self.wire.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # ── Answering ────────────────────────────────────────────────────────────────

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/_matrix/federation/")
        self.asked.append(path)
        script = max(
            (prefix for prefix in self.answers if path.startswith(prefix)),
            key=len,
            default=None,
        )
        if script is not None:
            answer = self.answers[script](request)
            if hasattr(answer, "__await__"):
                answer = await answer
            if isinstance(answer, web.StreamResponse):
                return answer
            status, body = answer if isinstance(answer, tuple) else (200, answer)
            return web.json_response(body, status=status)
        if path == "/_matrix/key/v2/server":
            return web.json_response(self.key_document())
        if path.startswith("v1/send/"):
            self.received.append(await request.json())
            return web.json_response({"pdus": {}})
        if path.startswith("v1/event/") and request.path.split("/")[-1] in self.events:
            event = self.events[request.path.split("/")[-1]]
            body = {"origin": self.name, "origin_server_ts": 1, "pdus": [event]}
            return web.json_response(body)
        return web.json_response({"errcode": "M_NOT_FOUND", "error": "no"}, status=404)

    def key_document(self) -> Json:
        return server_keys.build(self.name, (self.key,), {}, self.valid_until_ts)

    # ── Asking ───────────────────────────────────────────────────────────────────

    async def asks(
        self,
        site: Any,
        method: str,
        path: str,
        body: Json | None = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> Any:
        """A signed request. Raises: RemoteError."""
        return await self.wire.request(
            ServerName(site.name), method, path, body=body, query=query
        )

    async def pushes(
        self,
        site: Any,
        pdus: Sequence[Json] = (),
        edus: Sequence[Edu] = (),
        txn_id: str | None = None,
    ) -> dict[str, str | None]:
        """Send a transaction; what became of each PDU."""
        transaction = Transaction(self.name, _NOW_MS, tuple(pdus), tuple(edus))
        result = await calls.send_transaction(
            self.wire,
            ServerName(site.name),
            txn_id or f"t{next(_numbers)}",
            transaction,
        )
        return dict(result.pdus)

    async def joins(self, site: Any, room_id: str, localpart: str) -> "PeerRoom":
        """Bring a user of this server into a room, through that site."""
        user_id = UserId(f"@{localpart}:{self.name}")
        destination = ServerName(site.name)
        template = await calls_rooms.make_join(
            self.wire, destination, RoomId(room_id), user_id, ROOM_VERSIONS
        )
        version = ROOM_VERSIONS[template.room_version]
        event = self.completes(template, version)
        event_id = signatures.event_id_of(event, version)
        joined = await calls_rooms.send_join_v2(
            self.wire, destination, RoomId(room_id), event_id, event
        )
        room = PeerRoom(self, site, RoomId(room_id), version, user_id)
        for raw in (*joined.auth_chain, *joined.state, joined.event or event):
            pdu = parse_pdu(raw, version)
            room.known[pdu.event_id] = pdu
        for raw in joined.state:
            room.take(parse_pdu(raw, version))
        room.take(parse_pdu(joined.event or event, version))
        room.latest = [room.known[event_id]]
        return room

    def completes(
        self, template: EventTemplate, version: RoomVersion, **changes: Any
    ) -> Json:
        """The template as this server signs it."""
        event = {**template.event, "origin_server_ts": _NOW_MS, **changes}
        if version.event_id_format is EventIdFormat.FROM_SERVER:
            event["event_id"] = f"$j{next(_numbers)}:{self.name}"
        return signatures.hash_and_sign_event(event, version, self.name, self.key)


@dataclass
class PeerRoom:
    """A room as the peer knows it; what it builds follows its own state."""

    peer: Peer
    site: Any
    room_id: RoomId
    version: RoomVersion
    user_id: UserId
    state: dict[tuple[str, str], Pdu] = field(default_factory=dict)
    known: dict[EventId, Pdu] = field(default_factory=dict)
    latest: list[Pdu] = field(default_factory=list)

    def take(self, event: Pdu) -> None:
        """Count the event among the state."""
        if event.key is not None:
            self.state[event.key] = event

    def event(
        self,
        kind: str,
        content: Json,
        state_key: str | None = None,
        *,
        sender: str | None = None,
        after: Sequence[Pdu] | None = None,
        auth: Sequence[Pdu] | None = None,
        keep: bool = True,
        sign: bool = True,
        **changes: Any,
    ) -> Pdu:
        """Build an event upon the last one. `keep` False: the next one does not."""
        version, who = self.version, sender or self.user_id
        prev = list(self.latest if after is None else after)
        if auth is None:
            keys = auth_rules.auth_keys(version, kind, state_key, who, content)
            auth = [self.state[key] for key in keys if key in self.state]
        raw: Json = {
            "type": kind,
            "room_id": self.room_id,
            "sender": who,
            "content": content,
            "depth": max((p.depth for p in prev), default=0) + 1,
            "origin_server_ts": _NOW_MS + next(_numbers),
            "prev_events": reference_pairs(prev, version),
            "auth_events": reference_pairs(auth, version),
        }
        if state_key is not None:
            raw["state_key"] = state_key
        if version.event_id_format is EventIdFormat.FROM_SERVER:
            raw["event_id"] = f"$e{next(_numbers)}:{self.peer.name}"
        raw |= changes
        if sign:
            raw = signatures.hash_and_sign_event(
                raw, version, self.peer.name, self.peer.key
            )
        event = parse_pdu(raw, version)
        self.known[event.event_id] = event
        self.peer.events[event.event_id] = event.json
        if keep:
            self.latest = [event]
            self.take(event)
        return event

    def says(self, body: str, **options: Any) -> Pdu:
        return self.event(
            "m.room.message", {"msgtype": "m.text", "body": body}, **options
        )

    async def pushes(self, *events: Pdu) -> dict[str, str | None]:
        """Push events to the site."""
        return await self.peer.pushes(self.site, [event.json for event in events])


def copied(event: Pdu, **changes: Any) -> Json:
    """The JSON of an event with changes made after it was signed."""
    return json.loads(json.dumps(event.json)) | changes


@contextlib.contextmanager
def answering(peer: Peer, path: str, script: Script) -> Any:
    """Script an endpoint for a while."""
    peer.answers[path] = script
    try:
        yield
    finally:
        del peer.answers[path]
