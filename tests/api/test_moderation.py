"""What administrators do to accounts: whois, locking, suspending."""

import asyncio

import pytest

from homeserver.app import ENDPOINTS
from homeserver.http.moderation import NOT_WHEN_SUSPENDED, WHEN_LOCKED
from homeserver.http.routes import collect
from tests.support.api import RefusedError, eventually, path
from tests.support.client import Client, register

PUBLIC = {"preset": "public_chat"}
FLAG = "uk.timedout.msc4323"
_names = iter(range(10_000))


def admin_path(what: str, who: Client | str, base: str = "v1") -> str:
    user_id = who if isinstance(who, str) else who.user_id
    escaped = user_id.replace("@", "%40").replace(":", "%3A")
    return f"/_matrix/client/{base}/admin/{what}/{escaped}"


@pytest.fixture
async def admin(hearth) -> Client:
    return await register(
        lambda: hearth.session,
        hearth.base_url,
        "shared secret",
        f"admin{next(_names)}",
        admin=True,
    )


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def locks(admin: Client, who: Client, *, locked: bool = True) -> None:
    await admin.put(admin_path("lock", who), {"locked": locked})


async def suspends(admin: Client, who: Client, *, suspended: bool = True) -> None:
    await admin.put(admin_path("suspend", who), {"suspended": suspended})


# ── Who may ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["lock", "suspend"])
async def test_only_administrators_may_and_not_to_everybody(
    hearth, admin, alice, bob, what
):
    key = {"lock": "locked", "suspend": "suspended"}[what]
    where = admin_path(what, bob)
    nobody = admin_path(what, "@nobody:hearth.test")
    for call in (alice.get(where), alice.put(where, {key: True}), alice.get(nobody)):
        assert await refusal(call) == (403, "M_FORBIDDEN")
    assert await refusal(admin.get(nobody)) == (404, "M_NOT_FOUND")
    elsewhere = admin_path(what, "@bob:elsewhere.test")
    assert await refusal(admin.get(elsewhere)) == (400, "M_INVALID_PARAM")
    assert await refusal(admin.put(where, {key: "yes"})) == (400, "M_BAD_JSON")
    own = admin_path(what, admin)
    assert await refusal(admin.put(own, {key: True})) == (403, "M_FORBIDDEN")
    other = await register(
        lambda: hearth.session,
        hearth.base_url,
        "shared secret",
        f"admin{next(_names)}",
        admin=True,
    )
    call = admin.put(admin_path(what, other), {key: True})
    assert await refusal(call) == (403, "M_FORBIDDEN")
    assert await admin.get(where) == {key: False}
    assert await admin.put(where, {key: True}) == {key: True}
    assert await admin.get(admin_path(what, bob, f"unstable/{FLAG}")) == {key: True}
    assert await admin.put(where, {key: False}) == {key: False}


async def test_administrators_are_told_that_they_may(admin, alice):
    told = (await admin.get(path("capabilities")))["capabilities"]
    assert told["m.account_moderation"] == {"lock": True, "suspend": True}
    told = (await alice.get(path("capabilities")))["capabilities"]
    assert "m.account_moderation" not in told


# ── Locking ──────────────────────────────────────────────────────────────────────────


async def test_who_is_locked_can_only_log_out(hearth, admin, alice, another_process):
    elsewhere = Client(
        lambda: another_process.session, another_process.base_url, alice.access_token
    )
    await elsewhere.whoami()
    await locks(admin, alice)

    async def has_heard() -> bool:
        status, _ = await elsewhere.answer("GET", path("account", "whoami"))
        return status == 401

    await eventually(has_heard, "the other process knows")
    for client in (alice, elsewhere):
        for call in (client.whoami, client.joined_rooms, client.syncs):
            with pytest.raises(RefusedError) as error:
                await call()
            assert (error.value.status, error.value.errcode) == (401, "M_USER_LOCKED")
            assert error.value.body["soft_logout"] is True
    assert await refusal(hearth.logs_in(alice.user_id)) == (401, "M_USER_LOCKED")
    await locks(admin, alice, locked=False)
    assert (await alice.whoami())["user_id"] == alice.user_id
    await locks(admin, alice)
    await alice.logs_out()
    await locks(admin, alice, locked=False)
    assert await refusal(alice.whoami()) == (401, "M_UNKNOWN_TOKEN")


async def long_polls(hearth, alice: Client) -> list[asyncio.Task]:
    """A waiting call of each kind."""
    await alice.syncs()
    sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    asked = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1}}}
    pos = (await alice.post(sliding, asked))["pos"]
    calls = [
        alice.syncs(wait=30),
        alice.post(f"{sliding}?pos={pos}&timeout=30000", asked),
        alice.get(path("events") + "?timeout=30000"),
    ]
    tasks = [asyncio.create_task(call) for call in calls]

    async def all_wait() -> bool:
        return hearth.ctx.live.view.waiting.of(alice.user_id) == len(tasks)

    await eventually(all_wait, "the calls wait")
    return tasks


async def test_long_polls_end_when_the_account_is_locked(hearth, admin, alice):
    await alice.creates_room()
    polls = await long_polls(hearth, alice)
    await locks(admin, alice)
    async with asyncio.timeout(10):
        ends = [await refusal(poll) for poll in polls]
    assert ends == [(401, "M_USER_LOCKED")] * 3


async def test_long_polls_end_when_the_device_is_logged_out(hearth, alice):
    await alice.creates_room()
    polls = await long_polls(hearth, alice)
    await alice.logs_out()
    async with asyncio.timeout(10):
        ends = [await refusal(poll) for poll in polls]
    assert ends == [(401, "M_UNKNOWN_TOKEN")] * 3


# ── Suspending ───────────────────────────────────────────────────────────────────────


async def test_who_is_suspended_can_read_and_leave_but_not_act(
    hearth, admin, alice, bob
):
    room = await alice.creates_room(**PUBLIC)
    other = await bob.creates_room(**PUBLIC)
    await bob.joins(room)
    mine = await alice.sends(room, "mine")
    theirs = await bob.sends(room, "theirs")
    await suspends(admin, alice)
    suspended = (403, "M_USER_SUSPENDED")
    for call in (
        alice.sends(room, "x"),
        alice.sends_event(room, "org.example", {}),
        alice.sets_state(room, "m.room.topic", {"topic": "x"}),
        alice.joins(other),
        alice.knocks(other),
        alice.invites(room, bob),
        alice.kicks(room, bob),
        alice.creates_room(),
        alice.sets_displayname("x"),
        alice.delete(path("profile", alice.user_id, "displayname")),
        alice.redacts(room, theirs),
        alice.sends_event(room, "m.room.redaction", {"redacts": theirs}),
    ):
        assert await refusal(call) == suspended
    await alice.sees(room, "theirs")
    await alice.marks_read(room, theirs)
    await alice.redacts(room, mine)
    again = await hearth.logs_in(alice.user_id)
    call = again.put(path("rooms", room, "send", "m.room.message", "t"), {"body": "x"})
    assert await refusal(call) == suspended
    await bob.invites(other, alice)
    await alice.leaves(other)
    await alice.leaves(room)
    await suspends(admin, alice, suspended=False)
    await alice.joins(other)


async def test_what_was_scheduled_before_is_not_sent(admin, alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    reply = await alice.call(
        "PUT",
        path("rooms", room, "send", "m.room.message", "later"),
        {"body": "later", "msgtype": "m.text"},
        query={"org.matrix.msc4140.delay": "500"},
    )
    assert reply["delay_id"]
    await suspends(admin, alice)
    await asyncio.sleep(1.5)
    await bob.sends(room, "still quiet")
    await bob.sees(room, "still quiet")
    assert "later" not in bob.seen.room(room).bodies()


def test_the_lists_name_operations_that_there_are() -> None:
    operations = {route.operation for route in collect(ENDPOINTS)}
    assert operations >= WHEN_LOCKED | NOT_WHEN_SUSPENDED.keys()


# ── Whois ────────────────────────────────────────────────────────────────────────────


async def test_whois_tells_where_devices_were_seen(hearth, admin, alice, bob):
    where = path("admin", "whois", alice.user_id)
    own = await alice.get(where)
    assert own["user_id"] == alice.user_id
    assert list(own["devices"]) == [alice.device_id]
    connection = own["devices"][alice.device_id]["sessions"][0]["connections"][0]
    assert connection["ip"] == "127.0.0.1"
    assert connection["last_seen"] > 0
    assert (await admin.get(where))["devices"] == own["devices"]
    assert await refusal(bob.get(where)) == (403, "M_FORBIDDEN")
    where = path("admin", "whois", "@nobody:hearth.test")
    assert await refusal(admin.get(where)) == (404, "M_NOT_FOUND")


async def test_who_is_locked_is_not_found(admin, alice, bob):
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room)
    where, wanted = path("user_directory", "search"), {"search_term": bob.user_id}

    async def is_found() -> bool:
        reply = await alice.post(where, wanted)
        return [each["user_id"] for each in reply["results"]] == [bob.user_id]

    await eventually(is_found, "the other member is found")
    await locks(admin, bob)
    assert not await is_found()
    await locks(admin, bob, locked=False)
    assert await is_found()
