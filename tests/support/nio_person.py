"""matrix-nio with its encryption: a second crypto stack, in the test's own process.

It knows no cross-signing, and verification only by messages between devices.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import nio

from tests.support.client import PASSWORD
from tests.support.homeserver import Homeserver

_SECONDS: Final = 30


class NioPerson:
    """One user at one device, who syncs until they quit."""

    def __init__(self, client: nio.AsyncClient) -> None:
        self.client = client
        self.read: dict[str, nio.RoomMessageText] = {}  # decrypted, by event ID
        self.unread: dict[str, nio.MegolmEvent] = {}
        self._syncing: asyncio.Task[None] | None = None

    @classmethod
    async def logs_in(
        cls, server: Homeserver, user: str, device: str, store: Path
    ) -> Self:
        """A new device of a user, with keys of its own."""
        store.mkdir(parents=True, exist_ok=True)
        config = nio.AsyncClientConfig(encryption_enabled=True)
        client = nio.AsyncClient(
            server.base_url,
            f"@{user}:{server.name}",
            store_path=str(store),
            config=config,
        )
        reply = await client.login(PASSWORD, device_name=device)
        assert isinstance(reply, nio.LoginResponse), reply
        person = cls(client)
        client.add_event_callback(person._on_message, nio.RoomMessageText)
        client.add_event_callback(person._on_undecrypted, nio.MegolmEvent)
        client.add_to_device_callback(
            person._on_verification,
            (
                nio.KeyVerificationStart,
                nio.KeyVerificationKey,
                nio.KeyVerificationMac,
            ),
        )
        syncing = client.sync_forever(timeout=10_000, full_state=True)
        person._syncing = asyncio.create_task(syncing)
        await person.until("keys", lambda: not client.should_upload_keys)
        return person

    @property
    def user_id(self) -> str:
        return str(self.client.user_id)

    @property
    def device_id(self) -> str:
        return str(self.client.device_id)

    # ── What happens by itself ───────────────────────────────────────────────────

    async def _on_message(self, _: nio.MatrixRoom, event: nio.RoomMessageText) -> None:
        if event.decrypted:
            self.read[event.event_id] = event

    async def _on_undecrypted(self, _: nio.MatrixRoom, event: nio.MegolmEvent) -> None:
        self.unread[event.event_id] = event

    async def _on_verification(self, event: nio.KeyVerificationEvent) -> None:
        """Compare emoji and agree."""
        client, txn = self.client, event.transaction_id
        match event:
            case nio.KeyVerificationStart():
                await client.accept_key_verification(txn)
            case nio.KeyVerificationKey():
                sas = client.key_verifications[txn]
                if not sas.we_started_it:
                    # Who began has sent the key before, with its next sync.
                    await client.to_device(sas.share_key())
                await client.confirm_short_auth_string(txn)
            case nio.KeyVerificationMac():
                await client.to_device(client.key_verifications[txn].get_mac())

    # ── What the test asks for ───────────────────────────────────────────────────

    async def until(self, what: str, holds: Callable[[], object]) -> None:
        for _ in range(_SECONDS * 20):
            if self._syncing is not None and self._syncing.done():
                self._syncing.result()
            if holds():
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{self.device_id} waited in vain for {what}")

    async def joins(self, room: str) -> None:
        await self.until("the invite", lambda: room in self.client.invited_rooms)
        reply = await self.client.join(room)
        assert isinstance(reply, nio.JoinResponse), reply
        await self.until("the room", lambda: self.encrypts(room))

    def encrypts(self, room: str) -> bool:
        return room in self.client.rooms and self.client.rooms[room].encrypted

    async def sees_member(self, room: str, user_id: str) -> None:
        def is_there() -> bool:
            found = self.client.rooms.get(room)
            return found is not None and user_id in found.users

        await self.until(f"{user_id} in {room}", is_there)

    def devices_of(self, user_id: str) -> set[str]:
        return {
            each.id for each in self.client.device_store.active_user_devices(user_id)
        }

    async def knows_devices(self, user_id: str, *device_ids: str) -> None:
        await self.until(
            f"devices {device_ids}",
            lambda: self.devices_of(user_id) == set(device_ids),
        )

    async def makes_room(self, *guests: str) -> str:
        """A private encrypted room."""
        reply = await self.client.room_create(
            preset=nio.RoomPreset.private_chat,
            invite=list(guests),
            initial_state=[nio.EnableEncryptionBuilder().as_dict()],
        )
        assert isinstance(reply, nio.RoomCreateResponse), reply
        await self.until("the room", lambda: self.encrypts(reply.room_id))
        return str(reply.room_id)

    async def sends(self, room: str, body: str) -> str:
        """Send an encrypted message; its event ID."""
        content = {"msgtype": "m.text", "body": body}
        reply = await self.client.room_send(
            room, "m.room.message", content, ignore_unverified_devices=True
        )
        assert isinstance(reply, nio.RoomSendResponse), reply
        return str(reply.event_id)

    async def reads(self, event_id: str, body: str) -> None:
        await self.until(body, lambda: event_id in self.read)
        assert self.read[event_id].body == body

    async def cannot_read(self, event_id: str) -> None:
        await self.until("an event", lambda: event_id in self.unread)
        assert event_id not in self.read

    async def verifies(self, other: "NioPerson") -> None:
        """Both compare emoji and trust each other's device."""
        await self.until(
            f"{other.device_id}",
            lambda: other.device_id in self.devices_of(other.user_id),
        )
        device = self.client.device_store[other.user_id][other.device_id]
        await self.client.start_key_verification(device)
        for one, two in ((self, other), (other, self)):
            await one.until(
                f"trust in {two.device_id}",
                lambda one=one, two=two: (
                    one.client.device_store[two.user_id][two.device_id].verified
                ),
            )

    async def deletes_device(self, device_id: str) -> None:
        first = await self.client.delete_devices([device_id])
        assert isinstance(first, nio.DeleteDevicesAuthResponse), first
        auth = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": self.user_id},
            "password": PASSWORD,
            "session": first.session,
        }
        done = await self.client.delete_devices([device_id], auth)
        assert isinstance(done, nio.DeleteDevicesResponse), done

    async def logs_out(self) -> None:
        await self._stops_syncing()
        reply = await self.client.logout()
        assert isinstance(reply, nio.LogoutResponse), reply

    async def quits(self) -> None:
        """Stop; the device stays logged in."""
        await self._stops_syncing()
        await self.client.close()

    async def _stops_syncing(self) -> None:
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
            self._syncing = None
