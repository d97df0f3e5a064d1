"""Whose device lists a user has to look at again: changed, newly shared, and left.

A user shares with everybody who is joined to a room of theirs. What was shared at a
position follows from the rooms' member events up to it.

Spec: client-server-api#tracking-the-device-list-for-a-user
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Database
from homeserver.devices.store import sharing as store
from homeserver.live.live import Live
from homeserver.live.room import User


@dataclass(frozen=True, slots=True)
class Shares:
    """Users whose lists are to be fetched, and users not to follow any more."""

    changed: Sequence[UserId]
    left: Sequence[UserId]


@dataclass(frozen=True, slots=True)
class _Window:
    """What moved between two positions, in the rooms of one user.

    Who left and came back is among those who came.

    `now` and `before`: the user's rooms. Memberships are (room, user).
    """

    now: frozenset[int]
    before: frozenset[int]
    came: frozenset[tuple[int, UserId]]
    went: frozenset[tuple[int, UserId]]


async def changed_lists(
    db: Database, live: Live, user: User, since: int, upto: int
) -> Shares:
    """What moved after `since`, up to and with `upto`. Reads nothing if nothing did."""
    joined = user.joined
    pulses = await live.pulses(await live.view.rooms_moved(user, since))
    moved = [nid for nid, pulse in pulses.items() if pulse.members > since]
    moved += [
        nid
        for nid, member in user.rooms.items()
        if member.position > since and member.membership != "join"
    ]
    has_lists = user.moved > since or any(p.devices > since for p in pulses.values())
    if not moved and not has_lists:
        return Shares((), ())
    changed: set[UserId] = set()
    if has_lists:
        async with db.read() as tx:
            changed.update(
                await store.moved_lists(tx, user.user_id, joined, since, upto)
            )
    left: set[UserId] = set()
    if moved:
        new, left = await _shares(db, live, user, joined, moved, since, upto)
        changed |= new
    return Shares(sorted(changed), sorted(left - changed))


async def _shares(
    db: Database,
    live: Live,
    user: User,
    joined: Sequence[int],
    moved: Sequence[int],
    since: int,
    upto: int,
) -> tuple[set[UserId], set[UserId]]:
    """Users with whom the user shares a room now and did not, and the other way."""
    async with db.read() as tx:
        rows = await store.moved_memberships(tx, moved, since, upto)
    window = await _window(live, user, joined, rows)
    mine = {
        nid for nid, user_id in window.came | window.went if user_id == user.user_id
    }
    others = {user_id for _, user_id in window.came | window.went}
    async with db.read() as tx:
        if mine:
            others |= {each for _, each in await store.joined_members(tx, list(mine))}
        others.discard(user.user_id)
        if not others:
            return set(), set()
        rooms = window.now | window.before
        found = await store.memberships_of(tx, list(others), list(rooms))
    shared_now = {each.user_id for each in found if each.room_nid in window.now}
    shared_before = {
        each.user_id
        for each in found
        if each.room_nid in window.before
        and (each.room_nid, each.user_id) not in window.came
    } | {user_id for nid, user_id in window.went if nid in window.before}
    return (
        (others & shared_now) - shared_before,
        (others & shared_before) - shared_now,
    )


async def _window(
    live: Live, user: User, joined: Collection[int], rows: Iterable[store.Moved]
) -> _Window:
    moved = list(rows)
    nids = {m.before_nid for m in moved if m.before_nid}
    events = await live.events.by_nids(nids.union(*(m.nids for m in moved)))
    came: set[tuple[int, UserId]] = set()
    went: set[tuple[int, UserId]] = set()
    for each in moved:
        event = events.get(each.before_nid or 0)
        was_joined = event is not None and event.pdu.membership == "join"
        # Who was away for a moment may have changed devices unheard.
        was_away = any(
            events[nid].pdu.membership != "join" for nid in each.nids if nid in events
        )
        if each.is_joined and (was_away or not was_joined):
            came.add((each.room_nid, each.user_id))
        elif was_joined and not each.is_joined:
            went.add((each.room_nid, each.user_id))
    now = frozenset(joined)
    gained = {nid for nid, user_id in came if user_id == user.user_id}
    lost = {nid for nid, user_id in went if user_id == user.user_id}
    return _Window(
        now, frozenset((now - gained) | lost), frozenset(came), frozenset(went)
    )
