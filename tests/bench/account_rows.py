"""What log-ins cost everybody else."""

import asyncio
import time
from typing import Final

import orjson

from tests.bench.field import Contender
from tests.bench.load import Connection, percentile
from tests.bench.rows import Figure, Row, Scale
from tests.support.client import PASSWORD, Client

LOGGING_IN: Final = 50
_EVERY_S: Final = 0.01
_LOGIN: Final = "/_matrix/client/v3/login"
_ASKED: Final = "/_matrix/client/v3/account/whoami"


async def logins_beside_others(contender: Contender, scale: Scale) -> list[Figure]:
    """50 people log in at once, again and again; another asks 100 times a second"""
    people = await contender.once(
        "logging in", lambda: contender.people("login", LOGGING_IN)
    )
    asking = people[0]
    alone = await _asks(asking, scale.seconds)
    over = asyncio.Event()
    logins = asyncio.gather(*(_log_in(person, over) for person in people))
    beside = await _asks(asking, scale.seconds)
    over.set()
    counts = await logins
    before, during = (percentile(took, 0.99) for took in (alone, beside))
    return [
        Figure("log-ins", sum(counts) / scale.seconds, "/s", more_is_better=True),
        Figure("others alone, p99", before, "ms", judged=False),
        Figure("others meanwhile, p99", during, "ms"),
        Figure("delay, p99", max(during - before, 0.0), "ms"),
    ]


async def _asks(client: Client, seconds: float) -> list[float]:
    """Ask at a steady pace; how many milliseconds after its time each answer came."""
    took: list[float] = []
    clock = time.perf_counter
    async with Connection(client) as connection:
        due = clock()
        end = due + seconds
        while due < end:
            await asyncio.sleep(max(0.0, due - clock()))
            began = clock()
            await connection.call("GET", _ASKED)
            took.append((clock() - began) * 1000)
            due = max(due + _EVERY_S, clock())
    return took


async def _log_in(client: Client, over: asyncio.Event) -> int:
    """Log in on the same device until it is over; how often."""
    count = 0
    body = orjson.dumps(
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": client.user_id},
            "password": PASSWORD,
            "device_id": "BENCH",
        }
    )
    async with Connection(client) as connection:
        while not over.is_set():
            await connection.call("POST", _LOGIN, body)
            count += 1
    return count


ROWS: Final[dict[str, Row]] = {"logins_beside_others": logins_beside_others}
