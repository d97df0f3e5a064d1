"""Just enough of an identity server to turn a third-party invite into an invite.

Spec: client-server-api#third-party-invites
"""

from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from federation import canonical_json, x_matrix
from federation.canonical_json import JsonObject
from federation.ids import KeyId, ServerName
from federation.signatures import (
    SigningKey,
    decode_base64,
    encode_base64,
    sign_json,
)
from tests.support.api import path
from tests.support.client import Client
from tests.support.homeserver import HOST, Homeserver

NAME = "identity.example.org"


@dataclass
class IdentityServer:
    """Signs for people who followed their invite, and says that its key is valid."""

    key: SigningKey
    host: Homeserver  # the newcomer's server, which passes the invite on
    host_key: SigningKey
    inviting: Homeserver
    url: str = ""
    runner: web.AppRunner | None = None

    async def start(self) -> Self:
        app = web.Application()
        app.router.add_get("/valid", self._valid)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, HOST, 0)
        await site.start()
        host, port = self.runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/valid"
        return self

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def _valid(self, request: web.Request) -> web.Response:
        valid = request.query.get("public_key") == encode_base64(self.key.public)
        return web.json_response({"valid": valid})

    def invite_content(self, shown: str) -> dict[str, Any]:
        """The content of the m.room.third_party_invite event."""
        public = encode_base64(self.key.public)
        return {
            "display_name": shown,
            "key_validity_url": self.url,
            "public_key": public,
            "public_keys": [{"public_key": public, "key_validity_url": self.url}],
        }

    async def exchanges_invite(
        self, room: str, inviter: Client, newcomer: Client, token: str, version: str
    ) -> None:
        """The newcomer's server asks the inviter's to make it an invite.

        Spec: server-server-api#put_matrixfederationv1exchange_third_party_inviteroomid
        """
        signed = sign_json(
            {"mxid": newcomer.user_id, "token": token, "sender": inviter.user_id},
            NAME,
            self.key,
        )
        body: JsonObject = {
            "type": "m.room.member",
            "room_id": room,
            "sender": inviter.user_id,
            "state_key": newcomer.user_id,
            "content": {
                "membership": "invite",
                "third_party_invite": {
                    "display_name": f"m...@{version}.example.org",
                    "signed": signed,
                },
            },
        }
        where = path(room).replace(
            "/_matrix/client/v3/", "/_matrix/federation/v1/exchange_third_party_invite/"
        )
        sent = canonical_json.encode(body)
        header = x_matrix.sign(
            "PUT",
            where,
            ServerName(self.host.name),
            ServerName(self.inviting.name),
            sent,
            self.host_key,
        ).header
        # The plain listener serves federation too, which spares us TLS here.
        async with (
            aiohttp.ClientSession() as http,
            http.put(
                URL(self.inviting.base_url + where, encoded=True),
                data=sent,
                headers={"Authorization": header, "Content-Type": "application/json"},
            ) as reply,
        ):
            assert reply.status == 200, await reply.text()


def read_signing_key(text: str) -> SigningKey:
    """A key file in the usual form: `ed25519 NAME BASE64SEED`."""
    algorithm, name, seed = text.split()
    return SigningKey.from_seed(KeyId(f"{algorithm}:{name}"), decode_base64(seed))
