"""What relations users may send, and redactions that go on to what relates."""

import itertools

import pytest

from homeserver.rooms import redactions
from tests.api.test_deactivation import deactivates
from tests.api.test_relations import listed, reacts
from tests.api.test_relations_bundled import edits, relates
from tests.support.api import Json, RefusedError, path
from tests.support.client import Client

PUBLIC = {"preset": "public_chat"}
_txn_ids = itertools.count()


async def redacts(client: Client, room: str, event_id: str, **body: object) -> str:
    where = path("rooms", room, "redact", event_id, f"with{next(_txn_ids)}")
    return str((await client.put(where, dict(body)))["event_id"])


async def is_redacted(client: Client, room: str, event_id: str) -> bool:
    event = await client.reads_event(room, event_id)
    return "redacted_because" in event["unsigned"]


# ── Sending ──────────────────────────────────────────────────────────────────────────


async def test_a_thread_does_not_begin_in_a_thread(alice):
    room = await alice.creates_room()
    root = await alice.sends(room, "root")
    reply = await relates(alice, room, "m.thread", root)
    with pytest.raises(RefusedError) as error:
        await relates(alice, room, "m.thread", reply)
    assert (error.value.status, error.value.errcode) == (400, "M_UNKNOWN")
    await relates(alice, room, "m.reference", reply)
    await alice.redacts(room, reply)
    await relates(alice, room, "m.thread", reply)


async def test_nobody_reacts_twice_in_the_same_way(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await alice.sends(room, "hello")
    content: Json = {
        "m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": "+1"}
    }
    first = await alice.sends_event(room, "m.reaction", content, txn_id="one")
    again = await alice.sends_event(room, "m.reaction", content, txn_id="one")
    assert again == first
    with pytest.raises(RefusedError) as error:
        await reacts(alice, room, event_id)
    assert (error.value.status, error.value.errcode) == (400, "M_DUPLICATE_ANNOTATION")
    await reacts(alice, room, event_id, "-1")
    await reacts(bob, room, event_id)
    await alice.sends_event(room, "org.other", content)
    await alice.redacts(room, first)
    await reacts(alice, room, event_id)


# ── Redacting ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name", ["with_rel_types", "org.matrix.msc3912.with_relations"]
)
async def test_what_relates_so_is_redacted_as_well(alice, name):
    room = await alice.creates_room()
    event_id = await alice.sends(room, "first")
    edit = await edits(alice, room, event_id, "second")
    of_edit = await edits(alice, room, edit, "third")
    reply = await relates(alice, room, "m.thread", event_id)
    redaction = await redacts(
        alice, room, event_id, reason="why", **{name: ["m.replace"]}
    )
    assert await is_redacted(alice, room, event_id)
    assert await is_redacted(alice, room, edit)
    assert not await is_redacted(alice, room, reply)
    assert not await is_redacted(alice, room, of_edit)
    content = (await alice.reads_event(room, redaction))["content"]
    assert content == {"reason": "why", "redacts": event_id}
    because = (await alice.reads_event(room, edit))["unsigned"]["redacted_because"]
    assert because["content"]["reason"] == "why"


async def test_all_that_relates_is_redacted_as_far_as_one_may(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await bob.sends(room, "first")
    mine = await relates(bob, room, "m.thread", event_id)
    others = await relates(alice, room, "org.any", event_id)
    await redacts(bob, room, event_id, with_rel_types=["*"])
    assert await is_redacted(bob, room, mine)
    assert not await is_redacted(bob, room, others)
    await redacts(alice, room, event_id, with_rel_types=["*"])
    assert await is_redacted(bob, room, others)


async def test_many_and_late_children_are_redacted_by_and_by(alice, bob, hearth):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await bob.sends(room, "first")
    for number in range(55):
        await relates(bob, room, "m.reference", event_id, str(number))
    await redacts(alice, room, event_id, with_rel_types=["m.reference"])
    assert len((await listed(alice, room, event_id, limit="100"))[0]) == 5
    late = await relates(bob, room, "m.reference", event_id)
    other = await relates(bob, room, "m.thread", event_id)
    await redactions.go_on(hearth.ctx)
    assert await is_redacted(bob, room, late)
    assert (await listed(alice, room, event_id, limit="100"))[0] == [other]
    await alice.leaves(room)
    last = await relates(bob, room, "m.reference", event_id)
    await redactions.go_on(hearth.ctx)
    assert not await is_redacted(bob, room, last)


@pytest.mark.parametrize("kinds", ["m.replace", [1], {"a": 1}, ["x"] * 51, 7])
async def test_malformed_wishes_are_refused(alice, kinds):
    room = await alice.creates_room()
    event_id = await alice.sends(room, "first")
    with pytest.raises(RefusedError) as error:
        await redacts(alice, room, event_id, with_rel_types=kinds)
    assert (error.value.status, error.value.errcode) == (400, "M_BAD_JSON")
    assert not await is_redacted(alice, room, event_id)


async def test_moderators_may_see_what_was_redacted(alice, bob):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    event_id = await bob.sends(room, "bad words")
    await bob.redacts(room, event_id)
    where = path("rooms", room, "event", event_id)
    query = {"fi.mau.msc2815.include_unredacted_content": "true"}
    assert (await alice.get(where))["content"] == {}
    event = await alice.call("GET", where, query=query)
    assert event["content"]["body"] == "bad words"
    assert "redacted_because" in event["unsigned"]
    with pytest.raises(RefusedError) as error:
        await bob.call("GET", where, query=query)
    assert (error.value.status, error.value.errcode) == (403, "M_FORBIDDEN")
    assert (await alice.get(where))["content"] == {}


async def test_moderators_are_told_why_content_is_not_here(hearth, alice, bob, carol):
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    lost, erased = [await bob.sends(room, text) for text in ("one", "two")]
    for event_id in (lost, erased):
        await bob.redacts(room, event_id)
    event = await hearth.ctx.live.events.by_id(lost)
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE event_json SET json = $2 WHERE event_nid = $1",
            event.nid,
            event.pdu.redacted().text.decode(),
        )
    hearth.ctx.live.events.forget(event.nid)
    await deactivates(bob, erase=True)
    await carol.joins(room)  # who was there may go on reading what was erased
    await alice.sets_power(room, carol, 50)
    query = {"fi.mau.msc2815.include_unredacted_content": "true"}
    for event_id, why in ((lost, "NOT_RECEIVED"), (erased, "DELETED")):
        with pytest.raises(RefusedError) as error:
            await carol.call("GET", path("rooms", room, "event", event_id), query=query)
        code = f"FI.MAU.MSC2815_UNREDACTED_CONTENT_{why}"
        assert (error.value.status, error.value.errcode) == (404, code)
