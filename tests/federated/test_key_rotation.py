"""A server changes its key: what it said before stays said, and it goes on to speak."""

from federation.ids import ServerName
from federation.wire import keys as wire_keys
from homeserver import signing_key
from homeserver.server_keys.verify import Verified, verify_all
from tests.support.client import Client
from tests.support.peer import Peer
from tests.support.sites import Site, agree


async def rotated(site: Site) -> tuple[str, str]:
    """Rotate the key as `hearth keys rotate` does, and restart; both key IDs."""
    await site.stop()
    old, new = signing_key.rotate(site.config.signing_key_path)
    await site.start(1)
    return old.key_id, new.key_id


async def test_old_events_stay_valid_and_new_ones_are_taken(
    a: Site, b: Site, c: Site, alice: Client, bob: Client, carol: Client
) -> None:
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice)
    before = await bob.sends(room, "with the old key")
    await alice.sees_id(room, before)
    await rotated(b)
    bob = await b.back_again(bob)
    await alice.sees_id(room, await bob.sends(room, "with the new key"))
    # Who has never heard of b learns both keys, and the history holds.
    await carol.joins(room, via=alice)
    await agree(room, a, b, c)
    assert before in [event["event_id"] for event in await carol.history(room)]
    pdus = [e.pdu for e in (await b.ctx.live.events.by_ids([before])).values()]
    for site in (b, c):  # b itself still knows its own old key, too
        verdicts = await verify_all(site.ctx, pdus)
        assert [type(verdict) for verdict in verdicts] == [Verified]


async def test_the_old_key_is_published_with_the_time_it_expired(
    a: Site, peer: Peer
) -> None:
    first = a.ctx.clock.ms()
    old, new = await rotated(a)
    now = a.ctx.clock.ms()
    keys = await wire_keys.fetch_server_keys(peer.wire, ServerName(a.name), now)
    assert list(keys.verify_keys) == [new]
    expired_ts = keys.old_verify_keys[old].expired_ts
    assert first <= expired_ts <= now
    # It expired once: the next start does not make it any younger, nor a rotation.
    older, newest = await rotated(a)
    keys = await wire_keys.fetch_server_keys(peer.wire, ServerName(a.name), now)
    assert keys.old_verify_keys[old].expired_ts == expired_ts
    assert list(keys.verify_keys) == [newest]
    assert set(keys.old_verify_keys) == {old, older}
