"""A server with one crowded room, in a process of its own, for others to join.

It is made of `federation/` alone, and all that it will answer is made beforehand: who
measures a joining server does not measure this one.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web

from federation.pdu import Pdu, parse_pdu
from homeserver.demo.certificates import CertificateAuthority
from tests.support.liars import LyingRoom
from tests.support.peer import Peer

_JSON: Final = "application/json"


class _Issued:
    """The certificate that the parent process has made."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def issue(self, *_: object) -> tuple[Path, Path]:
        names = json.loads((self._directory / "issued.json").read_text())
        return Path(names["certificate"]), Path(names["key"])

    def write_ca(self, file: Path) -> Path:
        return file


class CrowdedRoom:
    """A room of so many members, all of them of the peer, ready to be handed over."""

    def __init__(self, peer: Peer, members: int, *, can_omit: bool) -> None:
        self.lies = LyingRoom(peer)
        self._can_omit = can_omit
        base = self.lies.state
        room = self.lies.room
        everybody: list[Pdu] = list(base)
        for n in range(members - 1):
            user_id = f"@member{n}:{peer.name}"
            everybody.append(
                room.event(
                    "m.room.member",
                    {"membership": "join", "displayname": f"Member number {n}"},
                    user_id,
                    sender=user_id,
                    auth=[base[0], base[2], base[3]],
                )
            )
        texts = b",".join(event.text for event in everybody)
        chain = b",".join(event.text for event in base)
        self._few = b",".join(e.text for e in base if e.type != "m.room.member")
        self._whole = b'[%b],"auth_chain":[%b]' % (texts, chain)
        self._chain = chain
        self._name = peer.name
        ids = [[e.event_id for e in events] for events in (everybody, base)]
        self._ids = {"pdu_ids": ids[0], "auth_chain_ids": ids[1]}
        peer.answers["v2/send_join/"] = self._send_join
        peer.answers["v1/state/"] = lambda _: _reply(b'{"pdus":%b}' % self._whole)
        peer.answers["v1/state_ids/"] = lambda _: self._ids
        peer.answers["v1/backfill/"] = lambda _: {"pdus": []}
        peer.answers["v1/get_missing_events/"] = lambda _: {"events": []}

    @property
    def room_id(self) -> str:
        return self.lies.room_id

    async def _send_join(self, request: web.Request) -> web.Response:
        join = parse_pdu(await request.json(), self.lies.version)
        self.lies.joined.append(join)
        if self._can_omit and request.query.get("omit_members") == "true":
            body = b'{"event":%b,"members_omitted":true,"servers_in_room":["%b"],' % (
                join.text,
                self._name.encode(),
            )
            parts = (self._few, self._chain)
            return _reply(body + b'"state":[%b],"auth_chain":[%b]}' % parts)
        body = b'{"event":%b,"members_omitted":false,"state":' % join.text
        return _reply(body + self._whole + b"}")


def _reply(body: bytes) -> web.Response:
    return web.Response(body=body, content_type=_JSON)


async def _serve(directory: Path, members: int, *, can_omit: bool) -> None:
    issued: Any = _Issued(directory)
    peer = Peer(issued, directory)
    await peer.start()
    try:
        room = CrowdedRoom(peer, members, can_omit=can_omit)
        sys.stdout.write(json.dumps({"name": peer.name, "room": room.room_id}) + "\n")
        sys.stdout.flush()
        # The parent closes this pipe when it is done, or when it dies.
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await peer.stop()


class Resident:
    """The process; `name` is the server, `room_id` the room."""

    def __init__(
        self,
        directory: Path,
        authority: CertificateAuthority,
        members: int,
        *,
        can_omit: bool,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = authority.issue(directory, "localhost", "127.0.0.1")
        authority.write_ca(directory / "ca.pem")
        names = {"certificate": str(certificate), "key": str(key)}
        (directory / "issued.json").write_text(json.dumps(names))
        self._argv = [
            *("-m", "tests.support.resident", str(directory), str(members)),
            *(["--can-omit"] if can_omit else []),
        ]
        self._process: asyncio.subprocess.Process
        self.name = ""
        self.room_id = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(180):
            said = json.loads(await self._process.stdout.readline())
        self.name, self.room_id = said["name"], said["room"]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("members", type=int)
    parser.add_argument("--can-omit", action="store_true")
    given = parser.parse_args()
    asyncio.run(_serve(given.directory, given.members, can_omit=given.can_omit))
