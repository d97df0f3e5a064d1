"""Which of both the configuration wants."""

from importlib import import_module

from homeserver.config import Config, ConfigError, Problem
from homeserver.db.pool import Database
from homeserver.wake_ups.base import WakeUps
from homeserver.wake_ups.postgresql import PostgresqlWakeUps


def wake_ups_of(config: Config, db: Database) -> WakeUps:
    """The wake-ups of one process. Raises: ConfigError, when they are not installed."""
    if config.wake_ups.by == "postgresql":
        return PostgresqlWakeUps(db)
    try:
        nats = import_module("homeserver.wake_ups.nats")
    except ModuleNotFoundError as error:
        text = f'`by = "nats"` needs {error.name}: install hearth-homeserver[nats]'
        raise ConfigError("wake_ups", [Problem(None, text)]) from None
    made: WakeUps = nats.NatsWakeUps(config, db)
    return made
