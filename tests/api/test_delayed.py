"""Delayed events: scheduling, waiting, managing."""

import asyncio
import itertools
import time

import pytest

from homeserver.delayed import tasks
from tests.support.api import RefusedError, eventually, path
from tests.support.client import Client

BASE = "/_matrix/client/unstable/org.matrix.msc4140"
LATER = 60_000
NOT_FOUND = (404, "M_NOT_FOUND")
_txn_ids = itertools.count()


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def puts_off(
    client: Client, room: str, body: str, delay_ms: int, txn_id: str = "", **query: int
) -> str:
    """Schedule a message as today's clients do; its delay ID."""
    where = path("rooms", room, "send", "m.room.message", txn_id or next_txn())
    told = {"org.matrix.msc4140.delay": str(delay_ms)}
    told |= {name: str(value) for name, value in query.items()}
    content = {"msgtype": "m.text", "body": body}
    reply = await client.call("PUT", where, content, query=told)
    assert set(reply) == {"delay_id"}
    return str(reply["delay_id"])


async def schedules(client: Client, room: str, kind: str, **body: object) -> str:
    """Schedule an event as the proposal has it; its delay ID."""
    where = f"{BASE}/rooms/{room}/delayed_event/{kind}/{next_txn()}"
    return str((await client.put(where, body))["delay_id"])


def next_txn() -> str:
    return f"delayed{next(_txn_ids)}"


async def waiting(client: Client) -> list[str]:
    reply = await client.get(f"{BASE}/delayed_events")
    return [each["delay_id"] for each in reply["delayed_events"]]


async def look(client: Client, delay_id: str) -> dict:
    return await client.get(f"{BASE}/delayed_events/{delay_id}")


async def manages(client, delay_id: str, action: str) -> None:
    assert await client.post(f"{BASE}/delayed_events/{delay_id}/{action}") == {}


async def is_over(client: Client, delay_id: str) -> dict:
    """Wait until it is finalised; what it is then."""

    async def over() -> bool:
        return "finalised_ts" in await look(client, delay_id)

    await eventually(over, f"{delay_id} is finalised", seconds=30)
    return await look(client, delay_id)


# ── Sending later ────────────────────────────────────────────────────────────────────


async def test_a_delayed_message_is_sent_when_its_time_has_come(alice, bob):
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    before = time.time() * 1000
    delay_id = await puts_off(alice, room, "later", 2500)
    await alice.sends(room, "now")
    assert await waiting(alice) == [delay_id]
    event = await bob.sees(room, "later", seconds=30)
    assert event["origin_server_ts"] >= before + 2500
    assert "org.matrix.msc4140.delay_id" not in event["unsigned"]
    mine = await alice.reads_event(room, event["event_id"])
    assert mine["unsigned"]["org.matrix.msc4140.delay_id"] == delay_id
    assert "transaction_id" not in mine["unsigned"]
    # It is in the room first, and noted as sent then.
    over = await is_over(alice, delay_id)
    assert await waiting(alice) == []
    assert over["event_id"] == event["event_id"]
    assert over["finalised_ts"] >= over["scheduled_at"] + 2500


async def test_delayed_state_is_set_when_its_time_has_come(alice):
    room = await alice.creates_room()
    await alice.sets_state(room, "m.call", {"in": True}, "me")
    where = path("rooms", room, "state", "m.call", "me")
    await alice.call("PUT", where, {}, query={"org.matrix.msc4140.delay": "300"})
    # Going on with the call does not take its end back.
    await alice.sets_state(room, "m.call", {"in": True, "still": 1}, "me")

    async def over() -> bool:
        return await alice.state_of(room, "m.call", "me") == {}

    await eventually(over, "the call's end was sent", seconds=30)


async def test_the_proposals_own_endpoint_schedules_messages_and_state(alice):
    room = await alice.creates_room()
    first = await schedules(alice, room, "m.x", delay_ms=LATER, content={"a": "\0"})
    second = await schedules(
        alice, room, "m.y", delay_ms=LATER // 2, content={}, state_key=""
    )
    assert await waiting(alice) == [second, first]
    shown = await look(alice, first)
    wanted = {"room_id": room, "type": "m.x", "delay_ms": LATER, "content": {"a": "\0"}}
    assert wanted.items() <= shown.items()
    assert "state_key" not in shown
    assert abs(shown["scheduled_at"] - time.time() * 1000) < 5000
    assert (await look(alice, second))["state_key"] == ""
    for delay_id in (first, second):
        await manages(alice, delay_id, "send")
    assert await alice.state_of(room, "m.y") == {}
    assert (await is_over(alice, first))["event_id"]


async def test_a_repeated_transaction_schedules_once(alice):
    room = await alice.creates_room()
    first = await puts_off(alice, room, "once", LATER, "t")
    assert await puts_off(alice, room, "once", LATER, "t") == first
    assert await waiting(alice) == [first]
    await manages(alice, first, "cancel")
    assert await puts_off(alice, room, "once", LATER, "t") == first


async def test_what_may_not_be_sent_fails_at_its_time_and_says_why(alice, bob):
    room = await alice.creates_room(preset="public_chat")
    delay_id = await puts_off(bob, room, "not in there", 200)
    over = await is_over(bob, delay_id)
    assert over["error"]["errcode"] == "M_FORBIDDEN"
    assert "event_id" not in over
    assert await waiting(bob) == []
    # Power counts as it is then, not as it was when the event was scheduled.
    delay_id = await schedules(
        bob, room, "m.room.topic", delay_ms=LATER, content={"topic": "x"}, state_key=""
    )
    send = f"{BASE}/delayed_events/{delay_id}/send"
    assert await refusal(bob.post(send)) == (403, "M_FORBIDDEN")
    assert await waiting(bob) == [delay_id]
    await bob.joins(room)
    await alice.sets_power(room, bob, 50)
    await manages(bob, delay_id, "send")
    assert await alice.state_of(room, "m.room.topic") == {"topic": "x"}


async def test_members_and_redactions_can_be_delayed_too(alice, bob):
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    event_id = await alice.sends(room, "gone soon")
    await schedules(
        alice, room, "m.room.redaction", delay_ms=200, content={"redacts": event_id}
    )
    kick = await schedules(
        alice,
        room,
        "m.room.member",
        delay_ms=100,
        content={"membership": "leave"},
        state_key=bob.user_id,
    )
    await is_over(alice, kick)
    assert (await alice.members(room))[bob.user_id] == "leave"

    async def redacted() -> bool:
        return (await alice.reads_event(room, event_id))["content"] == {}

    await eventually(redacted, "the message is redacted", seconds=30)


# ── Managing ─────────────────────────────────────────────────────────────────────────


async def test_what_is_cancelled_is_never_sent(alice):
    room = await alice.creates_room()
    delay_id = await puts_off(alice, room, "never", 2000)
    await manages(alice, delay_id, "cancel")
    await manages(alice, delay_id, "cancel")
    marker = await puts_off(alice, room, "marker", 2100)
    await is_over(alice, marker)
    bodies = [e["content"].get("body") for e in await alice.history(room)]
    assert "never" not in bodies
    assert bodies[-1] == "marker"
    for action in ("send", "restart"):
        call = alice.post(f"{BASE}/delayed_events/{delay_id}/{action}")
        assert await refusal(call) == (409, "M_UNKNOWN")
    shown = await look(alice, delay_id)
    assert not {"event_id", "error"} & set(shown)


async def test_what_is_restarted_waits_anew(alice):
    room = await alice.creates_room()
    delay_id = await puts_off(alice, room, "heartbeat", 3000)
    first = (await look(alice, delay_id))["scheduled_at"]
    restarted = first
    while restarted < first + 1000:
        await manages(alice, delay_id, "restart")
        restarted = (await look(alice, delay_id))["scheduled_at"]
    over = await is_over(alice, delay_id)
    assert over["finalised_ts"] >= restarted + 3000


async def test_the_old_way_to_manage_names_the_action_in_the_body(alice):
    room = await alice.creates_room()
    delay_id = await puts_off(alice, room, "x", LATER)
    where = f"{BASE}/delayed_events/{delay_id}"
    for action in ("restart", "send", "send"):
        assert await alice.post(where, {"action": action}) == {}
    assert await refusal(alice.post(where, {"action": "cancel"})) == (409, "M_UNKNOWN")
    for body in ({}, {"action": "stop"}, {"action": 1}):
        assert await refusal(alice.post(where, body)) == (400, "M_BAD_JSON")
    call = alice.post(f"{where}/stop", {})
    assert await refusal(call) == (400, "M_INVALID_PARAM")


async def test_who_knows_the_id_may_manage_it_and_other_users_may_not(
    hearth, alice, bob
):
    room = await alice.creates_room()
    delay_id = await puts_off(alice, room, "x", LATER)
    where = f"{BASE}/delayed_events/{delay_id}"
    for call in (
        bob.get(where),
        bob.post(f"{where}/cancel"),
        bob.post(where, {"action": "send"}),
        alice.get(f"{BASE}/delayed_events/nothing"),
        alice.post(f"{BASE}/delayed_events/%00/send"),
    ):
        assert await refusal(call) == NOT_FOUND
    await manages(hearth.nobody, delay_id, "restart")
    await manages(hearth.nobody, delay_id, "send")
    assert (await refusal(hearth.nobody.get(where)))[0] == 401


async def test_sending_at_once_from_many_sides_sends_once(alice, another_process):
    room = await alice.creates_room()
    elsewhere = another_process.client(alice.access_token)
    delay_id = await puts_off(alice, room, "once only", 300)
    calls = [manages(each, delay_id, "send") for each in (alice, elsewhere) * 4]
    await asyncio.gather(*calls)
    await is_over(alice, delay_id)
    bodies = [e["content"].get("body") for e in await alice.history(room)]
    assert bodies.count("once only") == 1


# ── Bounds ───────────────────────────────────────────────────────────────────────────


async def test_delays_have_a_limit_that_clients_are_told(another, person):
    user = await person(await another(limits={"enabled": False, "max_delay_s": 60}))
    room = await user.creates_room()
    reply = await user.get("/_matrix/client/v3/capabilities")
    told = reply["capabilities"]["org.matrix.msc4140.delayed_events"]
    assert told == {"max_delay_ms": 60_000, "max_scheduled": 100}
    where = path("rooms", room, "send", "m.x", "t")
    query = {"org.matrix.msc4140.delay": "60001"}
    status, answer = await user.answer("PUT", where, {}, query=query)
    assert (status, answer["errcode"]) == (400, "M_UNKNOWN")
    assert answer["org.matrix.msc4140.errcode"] == "M_MAX_DELAY_EXCEEDED"
    assert answer["org.matrix.msc4140.max_delay"] == 60_000
    call = schedules(user, room, "m.x", delay_ms=60_001, content={})
    assert await refusal(call) == (403, "M_FORBIDDEN")
    await schedules(user, room, "m.x", delay_ms=60_000, content={})


async def test_a_user_has_so_many_at_once(another, person):
    server = await another(limits={"enabled": False, "max_delayed_events": 2})
    user = await person(server)
    other = await person(server)
    room = await user.creates_room()
    first = await puts_off(user, room, "1", 30_000)
    await puts_off(user, room, "2", LATER)
    where = f"{BASE}/rooms/{room}/delayed_event/m.x/t"
    status, answer = await user.answer("PUT", where, {"delay_ms": 1, "content": {}})
    assert (status, answer["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    assert 0 < answer["retry_after_ms"] <= 31_000
    await puts_off(other, room, "3", LATER)
    await manages(user, first, "cancel")
    await puts_off(user, room, "4", LATER)


async def test_none_may_be_scheduled_where_the_limit_is_zero(another, person):
    limits = {"enabled": False, "max_delayed_events": 0}
    user = await person(await another(limits=limits))
    room = await user.creates_room()
    call = puts_off(user, room, "x", 10**10)
    assert await refusal(call) == (403, "M_FORBIDDEN")
    bodies = [e["content"].get("body") for e in await user.history(room)]
    assert "x" not in bodies


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"delay_ms": 100},
        {"delay_ms": 0, "content": {}},
        {"delay_ms": -5, "content": {}},
        {"delay_ms": "5", "content": {}},
        {"delay_ms": True, "content": {}},
        {"delay_ms": 100, "content": []},
        {"delay_ms": 100, "content": {}, "state_key": 1},
        {"delay_ms": 100, "content": {"float": 1.5}},
    ],
)
async def test_what_cannot_be_scheduled_is_refused(alice, body):
    room = await alice.creates_room()
    where = f"{BASE}/rooms/{room}/delayed_event/m.x/t"
    assert await refusal(alice.put(where, body)) == (400, "M_BAD_JSON")


async def test_what_could_never_be_sent_is_refused_at_once(alice):
    room = await alice.creates_room()
    content = {"long": "x" * 70_000}
    for kind, more in (
        ("m.x", {"content": content}),
        ("x" * 256, {"content": {}}),
        ("m.x", {"content": {}, "state_key": "x" * 256}),
    ):
        call = schedules(alice, room, kind, delay_ms=LATER, **more)
        assert await refusal(call) == (413, "M_TOO_LARGE")
    for delay in ("soon", "0", "-1", "1.5", ""):
        where = path("rooms", room, "send", "m.x", "t")
        call = alice.call("PUT", where, {}, query={"org.matrix.msc4140.delay": delay})
        assert await refusal(call) == (400, "M_INVALID_PARAM")
    assert await waiting(alice) == []


# ── Restarts and other processes ─────────────────────────────────────────────────────


async def test_what_became_due_while_the_server_was_down_is_sent_in_order(
    another, new_dsn, person
):
    dsn = await new_dsn()
    server = await another(dsn)
    user = await person(server)
    room = await user.creates_room()
    for number, delay_ms in enumerate((900, 600, 300)):
        await puts_off(user, room, str(number), delay_ms)
    await server.server.__aexit__(None, None, None)
    started = time.monotonic()
    again = await another(dsn)
    user.base_url = again.base_url
    await asyncio.sleep(max(0.0, 0.9 - (time.monotonic() - started)))
    await user.sees(room, "0", seconds=30)
    bodies = [e["content"].get("body") for e in await user.history(room)]
    assert [body for body in bodies if body] == ["2", "1", "0"]


async def test_another_process_sends_what_one_has_scheduled(another, new_dsn, person):
    dsn = await new_dsn()
    first = await another(dsn)
    user = await person(first)
    room = await user.creates_room()
    second = await another(dsn, signing_key_file=first.ctx.config.signing_key_file)
    watcher = second.client(user.access_token)
    delay_id = await puts_off(user, room, "later", 1200)
    await first.server.__aexit__(None, None, None)

    async def sent() -> bool:
        shown = await watcher.get(f"{BASE}/delayed_events/{delay_id}")
        return "event_id" in shown

    await eventually(sent, "the other process sent it", seconds=30)


async def test_a_process_that_died_while_sending_has_not_sent_twice(
    hearth, alice, monkeypatch
):
    """The event is in the room, and the row does not know it: as after a crash."""
    room = await alice.creates_room()
    delay_id = await puts_off(alice, room, "once", LATER)
    await manages(alice, delay_id, "send")
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            """
            UPDATE delayed_events
               SET finalised_at = NULL, event_id = NULL, send_at = now(),
                   claimed_until = now()
             WHERE delay_id = $1
            """,
            delay_id,
        )
    over = await is_over(alice, delay_id)
    found = [e for e in await alice.history(room) if e["content"].get("body") == "once"]
    assert [event["event_id"] for event in found] == [over["event_id"]]


async def test_what_is_over_is_forgotten_in_time(hearth, alice):
    room = await alice.creates_room()
    old, new = [await puts_off(alice, room, name, LATER) for name in ("a", "b")]
    await manages(alice, old, "cancel")
    await manages(alice, new, "cancel")
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            """
            UPDATE delayed_events SET finalised_at = now() - interval '8 days'
             WHERE delay_id = $1
            """,
            old,
        )
    await tasks.forget_old(hearth.ctx)
    assert await refusal(look(alice, old)) == NOT_FOUND
    assert (await look(alice, new))["delay_id"] == new
