"""Wake-ups by LISTEN and NOTIFY: nothing to set up, and enough for most."""

from homeserver.db.pool import Database
from homeserver.wake_ups.base import OnWakeUp, check_size


class PostgresqlWakeUps:
    """On the connections that the database keeps for it; they end with it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def listen(self, subject: str, callback: OnWakeUp) -> None:
        """Call back with every payload from now on, and with None at the start.

        Raises: DatabaseUnavailable.
        """
        await self._db.listen(f"hearth_{subject}", callback)

    async def tell(self, subject: str, payload: str) -> bool:
        """Send a payload to all who listen; False: the database is not there."""
        check_size(payload)
        return await self._db.notify(f"hearth_{subject}", payload)

    async def close(self) -> None:
        """Nothing: the connections end with the database."""
