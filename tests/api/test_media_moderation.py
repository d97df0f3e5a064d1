"""What is taken away stays away: by name, by user, by content, and across servers."""

import hashlib

from federation.ids import ServerName, UserId
from homeserver.media import moderation, references, tasks
from homeserver.media.store import Mxc
from tests.support.api import path
from tests.support.app import Running
from tests.support.client import Client
from tests.support.media import (
    V3,
    downloads,
    fetch,
    noise,
    picture,
    thumbnails,
    uploads,
)

ADMIN = UserId("@admin:hearth.test")
GONE = (404, "M_NOT_FOUND")


def mxc(where: str) -> Mxc:
    origin, _, media_id = where.partition("/")
    return Mxc(ServerName(origin), media_id)


async def test_quarantine_and_back(alice: Client, hearth: Running):
    data = picture((300, 200))
    where, other = await uploads(alice, data), await uploads(alice, data)
    assert (await thumbnails(alice, where)).status == 200
    async with hearth.ctx.db.transaction() as tx:
        assert await moderation.quarantine(tx, mxc(where), ADMIN)
    assert (await downloads(alice, where)).refusal == GONE
    assert (await thumbnails(alice, where)).refusal == GONE
    assert (await downloads(alice, other)).body == data
    await tasks.sweep(hearth.ctx)
    async with hearth.ctx.db.transaction() as tx:
        assert await moderation.release(tx, mxc(where))
        assert not await moderation.release(tx, mxc(where))
    assert (await downloads(alice, where)).body == data


async def test_all_files_of_a_user(alice: Client, bob: Client, hearth: Running):
    first, second = await uploads(alice, noise(10)), await uploads(alice, noise(10))
    others = await uploads(bob, noise(10))
    async with hearth.ctx.db.transaction() as tx:
        assert await moderation.protect(tx, mxc(first), protected=True)
        user = UserId(alice.user_id)
        assert await moderation.quarantine_of_user(tx, user, ADMIN) == 1
        listed = await moderation.files_of(tx, user, "", 10)
    assert {each.media_id: each.protected for each in listed} == {
        mxc(first).media_id: True,
        mxc(second).media_id: False,
    }
    assert (await downloads(bob, first)).status == 200
    assert (await downloads(bob, second)).refusal == GONE
    assert (await downloads(bob, others)).status == 200


async def test_a_blocked_content_does_not_come_back(
    alice: Client, bob: Client, hearth: Running
):
    data = noise(1000)
    where = await uploads(alice, data)
    sha256 = hashlib.sha256(data).digest()
    async with hearth.ctx.db.transaction() as tx:
        await moderation.block(tx, sha256, ADMIN, "bad\0")
    assert (await downloads(alice, where)).refusal == GONE
    got = await fetch(bob, f"{V3}/upload", method="POST", data=data)
    assert got.refusal == (403, "M_FORBIDDEN")
    async with hearth.ctx.db.transaction() as tx:
        assert await moderation.delete(tx, mxc(where))
    await tasks.sweep(hearth.ctx)
    got = await fetch(bob, f"{V3}/upload", method="POST", data=data)
    assert got.refusal == (403, "M_FORBIDDEN")
    async with hearth.ctx.db.transaction() as tx:
        assert await moderation.unblock(tx, sha256)
    again = await uploads(bob, data)
    assert (await downloads(bob, again)).body == data


async def test_what_is_not_here_yet_never_comes(alice: Client, hearth: Running):
    where = "elsewhere.test/abc"
    async with hearth.ctx.db.transaction() as tx:
        assert not await moderation.quarantine(tx, mxc(where), ADMIN)
    assert (await downloads(alice, where)).refusal == GONE
    async with hearth.ctx.db.transaction() as tx:
        await moderation.release(tx, mxc(where))
    assert (await downloads(alice, where)).status == 502


async def test_all_files_of_a_room(alice: Client, hearth: Running):
    room = await alice.creates_room()
    picture_of_room, sent, redacted, other = [
        await uploads(alice, noise(10)) for _ in range(4)
    ]
    await alice.put(
        path("rooms", room, "state", "m.room.avatar", ""),
        {"url": f"mxc://{picture_of_room}"},
    )
    ids = []
    for where in (sent, redacted):
        reply = await alice.put(
            path("rooms", room, "send", "m.room.message", where[-8:]),
            {
                "msgtype": "m.image",
                "body": "a",
                "url": f"mxc://{where}",
                "info": {"thumbnail_url": "mxc://elsewhere.test/thumb"},
            },
        )
        ids.append(reply["event_id"])
    bad = {"url": "mxc://!/..", "info": 1, "file": {"url": [1]}, "images": {"a": 1}}
    await alice.put(path("rooms", room, "send", "m.x", "bad"), bad)
    async with hearth.ctx.db.read() as tx:
        assert await references.users_of(tx, mxc(sent)) == ids[:1]
    await alice.put(path("rooms", room, "redact", ids[1], "r"), {})
    found = await hearth.ctx.live.room(room)
    async with hearth.ctx.db.transaction() as tx:
        assert await references.users_of(tx, mxc(redacted)) == []
        assert await references.quarantine_of_room(tx, found.nid, ADMIN) == 3
    for where, status in (
        (picture_of_room, 404),
        (sent, 404),
        (redacted, 200),
        (other, 200),
        ("elsewhere.test/thumb", 404),
    ):
        assert (await downloads(alice, where)).status == status
