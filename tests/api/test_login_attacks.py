"""What somebody learns, and hinders, who tries passwords."""

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.app import PASSWORD, Running

LOGIN = "/_matrix/client/v3/login"
Another = Callable[..., Awaitable[Running]]


async def tries(
    hearth: Running, name: str, password: str, ip: str
) -> tuple[int, dict[str, Any]]:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": name},
        "password": password,
    }
    async with hearth.session.post(
        hearth.base_url + LOGIN, json=body, headers={"X-Forwarded-For": ip}
    ) as reply:
        return reply.status, await reply.json()


async def test_strangers_who_guess_do_not_lock_the_owner_out(another: Another) -> None:
    hearth = await another(limits={"enabled": True})
    await hearth.registers("bob")
    assert (await tries(hearth, "bob", PASSWORD, "192.0.2.1"))[0] == 200
    for number in range(10):
        status, _ = await tries(hearth, "bob", "wrong", f"198.51.100.{number}")
        assert status == 403
    # From nowhere else can anybody go on, whatever the password.
    status, body = await tries(hearth, "bob", PASSWORD, "198.51.100.100")
    assert (status, body["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    assert (await tries(hearth, "bob", PASSWORD, "192.0.2.1"))[0] == 200
    # Nor can the owner's own address guess for ever.
    for _ in range(10):
        assert (await tries(hearth, "bob", "wrong", "192.0.2.1"))[0] == 403
    assert (await tries(hearth, "bob", PASSWORD, "192.0.2.1"))[0] == 429


async def test_nobody_learns_who_has_an_account(hearth: Running) -> None:
    bob = await hearth.registers()
    names = {"there": bob.user_id, "not there": "@nobody:hearth.test"}
    said: dict[str, Any] = {}
    took: dict[str, list[float]] = {which: [] for which in names}
    for _ in range(9):
        for which, name in names.items():
            began = time.perf_counter()
            said[which] = await tries(hearth, name, "wrong", "192.0.2.1")
            took[which].append(time.perf_counter() - began)
    assert said["there"] == said["not there"]
    assert said["there"][0] == 403
    there, not_there = (statistics.median(took[which]) for which in names)
    # A hash costs ten times as much as all the rest.
    assert 0.5 < there / not_there < 2
