"""Reports of events, rooms and users."""

import pytest

from homeserver.reports import store
from tests.support.api import Json, RefusedError, path
from tests.support.app import Running
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}


async def newest(hearth: Running) -> store.StoredReport:
    async with hearth.ctx.db.read() as tx:
        (report,) = await store.read_reports(tx, 2**62, 1)
    return report


async def reports(client: Client, *where: str, **body: object) -> Json:
    return await client.post(path(*where, "report"), dict(body))


async def test_an_event_is_reported_with_its_sender(alice, bob, hearth):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await alice.sends(room, "bad")
    where = path("rooms", room, "report", event_id)
    assert await bob.post(where, {"reason": "bad\0words", "score": -500}) == {}
    report = await newest(hearth)
    assert report.reporter == bob.user_id
    assert (report.room_id, report.event_id) == (room, event_id)
    assert report.user_id == alice.user_id
    assert (report.reason, report.score) == ("bad\0words", -100)
    await bob.post(where, {})
    assert (await newest(hearth)).reason == ""


async def test_only_members_report_events_and_only_those_that_they_see(
    alice, bob, carol
):
    room = await alice.creates_room(**PUBLIC)
    other = await alice.creates_room()
    await alice.sets_state(
        room, "m.room.history_visibility", {"history_visibility": "joined"}
    )
    hidden = await alice.sends(room, "before bob")
    elsewhere = await alice.sends(other, "elsewhere")
    await bob.joins(room)
    for who, where, event_id in (
        (carol, room, hidden),
        (bob, room, hidden),
        (bob, room, elsewhere),
        (bob, other, elsewhere),
        (bob, "!nowhere:hearth.test", hidden),
        (bob, room, "$nothing:hearth.test"),
    ):
        with pytest.raises(RefusedError) as error:
            await who.post(path("rooms", where, "report", event_id), {"reason": ""})
        assert (error.value.status, error.value.errcode) == (404, "M_NOT_FOUND")


async def test_rooms_and_users_are_reported_by_anybody(alice, bob, hearth):
    room = await alice.creates_room()
    assert await reports(bob, "rooms", room, reason="spam") == {}
    report = await newest(hearth)
    assert (report.room_id, report.event_id, report.user_id) == (room, None, None)
    assert await reports(bob, "users", alice.user_id, reason="") == {}
    report = await newest(hearth)
    assert (report.room_id, report.user_id) == (None, alice.user_id)
    assert (report.reporter, report.reason) == (bob.user_id, "")


async def test_the_answer_does_not_tell_what_exists(alice):
    assert await reports(alice, "rooms", "!nowhere:hearth.test", reason="x") == {}
    assert await reports(alice, "users", "@nobody:hearth.test", reason="x") == {}
    assert await reports(alice, "users", "@nobody:elsewhere.test", reason="x") == {}


async def test_the_unstable_paths_answer_too(alice, hearth):
    for where in (
        "org.matrix.msc4151/rooms/!x:hearth.test/report",
        "org.matrix.msc4260/users/@x:hearth.test/report",
    ):
        await alice.post(f"/_matrix/client/unstable/{where}", {"reason": where})
        assert (await newest(hearth)).reason == where


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        ({}, 400, "M_BAD_JSON"),
        ({"reason": 1}, 400, "M_BAD_JSON"),
        ({"reason": None}, 400, "M_BAD_JSON"),
        ({"reason": "x" * 10_001}, 413, "M_TOO_LARGE"),
    ],
)
async def test_a_report_has_a_reason_of_a_sane_length(alice, body, status, errcode):
    for where in (path("rooms", "!x:y.z", "report"), path("users", "@x:y.z", "report")):
        with pytest.raises(RefusedError) as error:
            await alice.post(where, body)
        assert (error.value.status, error.value.errcode) == (status, errcode)
    room = await alice.creates_room()
    event_id = await alice.sends(room, "x")
    with pytest.raises(RefusedError) as error:
        where = path("rooms", room, "report", event_id)
        await alice.post(where, body | {"score": "bad"})
    assert error.value.status == status


@pytest.mark.parametrize("who", ["rooms/x", "users/x"])
async def test_it_has_to_be_an_identifier(alice, who):
    with pytest.raises(RefusedError) as error:
        await reports(alice, *who.split("/"), reason="x")
    assert (error.value.status, error.value.errcode) == (400, "M_INVALID_PARAM")


async def test_reports_are_limited(another, person):
    server = await another(limits={"enabled": True})
    alice = await person(server)
    with pytest.raises(RefusedError) as error:
        for _ in range(40):
            await reports(alice, "users", "@x:y.z", reason="x")
    assert (error.value.status, error.value.errcode) == (429, "M_LIMIT_EXCEEDED")
