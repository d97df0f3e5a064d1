"""People who go on sending while their server dies under them, and note it all."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from tests.support.client import Client, RefusedError

# While the server is going down or coming up, calls fail in these ways.
_DOWN: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


@dataclass
class Sent:
    """One message: asked for at `began` for the first time, answered at `ended`."""

    txn_id: str
    body: str
    began: float
    event_id: str = ""
    ended: float = 0
    tries: int = 0


@dataclass
class Sender:
    """Sends one message after the other; repeats what got no answer."""

    client: Client
    room: str
    up: asyncio.Event
    sent: list[Sent] = field(default_factory=list)

    async def sends_until(self, done: asyncio.Event) -> None:
        """Go on until told to stop; then all that was begun is answered."""
        loop = asyncio.get_running_loop()
        while not done.is_set():
            number = len(self.sent)
            message = Sent(
                f"txn{number}", f"{self.client.user_id} {number}", loop.time()
            )
            self.sent.append(message)
            await self.sends_at_last(message)
            # No more between two looks of the reader than fit into one answer.
            await asyncio.sleep(0.005)

    async def sends_at_last(self, message: Sent) -> None:
        loop = asyncio.get_running_loop()
        while not message.event_id:
            await self.up.wait()
            message.tries += 1
            try:
                message.event_id = await self.repeats(message)
                message.ended = loop.time()
            except _DOWN:
                await asyncio.sleep(0.01)
            except RefusedError as refused:
                # A server that is losing its database may say so, and nothing else.
                if refused.status < 500:
                    raise
                await asyncio.sleep(0.01)

    async def repeats(self, message: Sent) -> str:
        """PUT it, again or for the first time; the event ID it is answered with."""
        return await self.client.sends(self.room, message.body, txn_id=message.txn_id)
