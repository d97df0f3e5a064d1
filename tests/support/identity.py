"""A scripted identity server: signs that an address belongs to a user."""

from typing import Any

from aiohttp import web
from nacl.signing import SigningKey as Seed

from federation import signatures
from federation.signatures import SigningKey

NAME = "identity.test"


class Identity:
    """Its key, what it signs, and, once started, whether it says the key is valid."""

    def __init__(self) -> None:
        self.key = SigningKey("ed25519:1", Seed.generate())
        self.is_valid = True
        self.asked: list[str] = []

    @property
    def public_key(self) -> str:
        return signatures.encode_base64(bytes(self.key.key.verify_key))

    def invite(self, url: str | None = None) -> dict[str, Any]:
        """The content of m.room.third_party_invite."""
        entry: dict[str, Any] = {"public_key": self.public_key}
        if url is not None:
            entry["key_validity_url"] = url
        return {"display_name": "b...@example.org", **entry, "public_keys": [entry]}

    def signed(self, user_id: str, token: str) -> dict[str, Any]:
        return dict(
            signatures.sign_json({"mxid": user_id, "token": token}, NAME, self.key)
        )

    def bound(self, user_id: str, sender: str, room: str, token: str) -> dict[str, Any]:
        """The body of onbind."""
        about = {"medium": "email", "address": "bob@example.org", "mxid": user_id}
        signed = self.signed(user_id, token)
        invite = {**about, "room_id": room, "sender": sender, "signed": signed}
        return {**about, "invites": [invite]}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["public_key"])
        return web.json_response({"valid": self.is_valid})
