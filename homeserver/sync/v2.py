"""Sync as of today's clients: wait until something moved, then say what.

Spec: client-server-api#syncing
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import orjson

from federation.canonical_json import JsonObject, JsonValue
from homeserver.devices.inbox import Inbox
from homeserver.live.room import Member, Room, User
from homeserver.rooms.timeline import Point
from homeserver.sync import (
    device_lists,
    ephemeral,
    invites,
    own,
    people,
    to_device,
)
from homeserver.sync.joined import Extras, joined_section
from homeserver.sync.left import left_section, pending_section, read_stripped
from homeserver.sync.request import Sources, SyncRequest, renderer
from homeserver.sync.states import MEMBER
from homeserver.sync.sticky import read_sticky
from homeserver.sync.unwritten import Unwritten

_ROOMS_AT_ONCE: Final = 50
# What is read of each room beforehand: its newest events, and entries of its state.
_RECENT: Final = 20
_STATE: Final = 100


@dataclass(frozen=True, slots=True)
class Moved:
    """Which of the user's rooms have news, by kind of membership."""

    joined: dict[int, Member]
    invited: dict[int, Member]
    knocked: dict[int, Member]
    left: dict[int, Member]


async def incremental(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> JsonObject | None:
    """What moved after `request.since`, up to `upto`; None when nothing did."""
    since = request.since or 0
    # Also when nothing moved: what was acknowledged is deleted.
    inbox = await to_device.read(sources, request, user, upto)
    if not request.full_state and not inbox.messages:
        wants_people = people.are_wanted(request)
        if not await sources.live.view.has_moved(user, since, people=wants_people):
            return None
    moved = await _moved(sources, request, user)
    extras, account_data = await _extras(sources, request, user, moved, upto)
    moved.joined.update(
        {
            nid: user.rooms[nid]
            for nid in (*extras.account_data, *extras.ephemeral)
            if nid in user.rooms and user.rooms[nid].membership == "join"
        }
    )
    rooms: dict[str, JsonValue] = {}
    joined = {}
    async for room, section in _joined_sections(
        sources, request, moved.joined, upto, extras
    ):
        joined[str(room.room_id)] = section
    if joined:
        rooms["join"] = joined  # type: ignore[assignment]
    rooms.update(await _other_rooms(sources, request, moved, extras))
    devices = await _device_sections(sources, request, user, upto, inbox)
    of_people = await people.sections(sources, request, user, upto)
    if not (rooms or account_data or devices.has_news or of_people):
        return None
    answer: JsonObject = {
        "next_batch": str(devices.next_batch),
        **devices.sections,
        **of_people,
    }
    if rooms:
        answer["rooms"] = rooms
    if account_data:
        answer["account_data"] = {"events": account_data}  # type: ignore[dict-item]
    return answer


async def initial(
    sources: Sources, request: SyncRequest, user: User, upto: int
) -> AsyncIterator[bytes]:
    """Everything, room by room; the token is fixed at the start."""
    everything = Moved({}, {}, {}, {})
    for nid, member in user.rooms.items():
        if member.position <= upto:
            _sort(everything, nid, member, request)
    extras, account_data = await _extras(sources, request, user, everything, upto)
    inbox = await to_device.read(sources, request, user, upto)
    devices = await _device_sections(sources, request, user, upto, inbox)
    head: JsonObject = {
        "next_batch": str(devices.next_batch),
        "account_data": {"events": account_data},  # type: ignore[dict-item]
        **devices.sections,
        **await people.sections(sources, request, user, upto),
    }
    yield orjson.dumps(head)[:-1] + b',"rooms":{"join":{'
    separator = b""
    async for room, section in _joined_sections(
        sources, request, everything.joined, upto, extras
    ):
        yield separator + orjson.dumps(room.room_id) + b":" + orjson.dumps(section)
        separator = b","
    yield b"}"
    for name, sections in (
        await _other_rooms(sources, request, everything, extras)
    ).items():
        yield b"," + orjson.dumps(name) + b":" + orjson.dumps(sections)
    yield b"}}"


async def idle(sources: Sources, request: SyncRequest, upto: int) -> JsonObject:
    """The answer when nothing moved."""
    counts = await device_lists.counts(sources, request)
    return {"next_batch": str(Point(upto)), **device_lists.counts_sections(counts)}


@dataclass(frozen=True, slots=True)
class _Devices:
    """The sections about devices, the token, and whether they are worth an answer."""

    sections: JsonObject
    next_batch: Point
    has_news: bool


async def _device_sections(
    sources: Sources, request: SyncRequest, user: User, upto: int, inbox: Inbox
) -> _Devices:
    lists = await device_lists.read(sources, request, user, upto)
    counts = await device_lists.counts(sources, request)
    sections = device_lists.counts_sections(counts)
    if inbox.messages:
        sections["to_device"] = to_device.section(inbox)
    if lists:
        sections["device_lists"] = lists
    has_news = bool(inbox.messages or lists) or counts.position > (request.since or 0)
    return _Devices(sections, Point(upto, inbox=inbox.upto), has_news)


async def _moved(sources: Sources, request: SyncRequest, user: User) -> Moved:
    since = request.since or 0
    moved = Moved({}, {}, {}, {})
    for nid in await sources.live.view.rooms_moved(user, since):
        moved.joined[nid] = user.rooms[nid]
    if user.moved <= since and not request.full_state:
        return moved  # no membership of theirs is new
    for nid, member in user.rooms.items():
        newer = member.position > since
        if newer or (request.full_state and member.membership == "join"):
            _sort(moved, nid, member, request)
    return moved


def _sort(moved: Moved, nid: int, member: Member, request: SyncRequest) -> None:
    match member.membership:
        case "join":
            moved.joined[nid] = member
        case "invite":
            moved.invited[nid] = member
        case "knock":
            moved.knocked[nid] = member
        case "leave" | "ban":
            # An initial sync shows rooms that are over only when asked to. That one is
            # over is told once, also when it is forgotten already.
            since = request.since
            is_wanted = since is not None or request.filter.room.include_leave
            is_news = since is not None and member.position > since
            if is_news or (is_wanted and not member.forgotten):
                moved.left[nid] = member
        case _:
            pass


async def _extras(
    sources: Sources, request: SyncRequest, user: User, moved: Moved, upto: int
) -> tuple[Extras, list[JsonObject]]:
    """What moved beside events: of rooms, and of the user alone."""
    wanted = request.filter
    since = request.since
    account_data: Mapping[int, list[JsonObject]] = {}
    if since is None or user.moved > since:
        async with sources.db.read() as tx:
            account_data = await own.read_account_data(
                tx, user.user_id, since or 0, upto, sources.counts.extras
            )
    of_user = [
        event
        for event in account_data.get(0, ())
        if wanted.account_data.keeps(None, str(event["type"]))
    ]
    of_rooms = {
        nid: kept
        for nid, events in account_data.items()
        if nid
        and (
            kept := [
                event
                for event in events
                if wanted.room.account_data.keeps(None, str(event["type"]))
            ]
        )
    }
    shown = await ephemeral.read(sources, request, moved.joined, upto)
    return Extras(shown, of_rooms), of_user


async def _joined_sections(
    sources: Sources,
    request: SyncRequest,
    members: Mapping[int, Member],
    upto: int,
    extras: Extras,
) -> AsyncIterator[tuple[Room, JsonObject]]:
    write = renderer(request, sources.clock.ms())
    keeps = request.filter.room.keeps_room
    async for batch in _batches(sources, request, members):
        rooms = {
            room: members[room.nid]
            for room in batch
            # All members or none, for who does not load them as they are needed.
            if keeps(room.room_id) and (request.lazy or not room.is_partial)
        }
        unread = await sources.counts.of_rooms(request.viewer.user_id, rooms, upto)
        sticky = await read_sticky(
            sources, request.viewer.user_id, [room.nid for room in rooms], upto
        )
        extras = replace(extras, sticky=sticky)
        unwritten = Unwritten()
        sections = {
            room: await joined_section(
                sources,
                request,
                room,
                member,
                upto,
                extras,
                unread[room.nid],
                write,
                unwritten,
            )
            for room, member in rooms.items()
        }
        await unwritten.write(sources, write)
        for room, section in sections.items():
            if section is not None:
                yield room, section


async def _rooms(
    sources: Sources, request: SyncRequest, nids: Iterable[int]
) -> AsyncIterator[Room]:
    async for batch in _batches(sources, request, nids):
        for room in batch:
            yield room


async def _batches(
    sources: Sources, request: SyncRequest, nids: Iterable[int]
) -> AsyncIterator[list[Room]]:
    """Those rooms, loaded some at a time, so that memory stays bounded."""
    wanted = list(nids)
    for start in range(0, len(wanted), _ROOMS_AT_ONCE):
        batch = wanted[start : start + _ROOMS_AT_ONCE]
        rooms = await sources.live.rooms(batch)
        await _prefetch(sources, request, rooms.values())
        yield [rooms[nid] for nid in batch if nid in rooms]


async def _prefetch(
    sources: Sources, request: SyncRequest, rooms: Iterable[Room]
) -> None:
    """Read what the sections of these rooms will want, of all of them at once.

    Of members only who spoke last: all of them are read where they are wanted.
    """
    recent = {room: [nid for _, nid in list(room.recent)[-_RECENT:]] for room in rooms}
    nids = {nid for newest in recent.values() for nid in newest}
    is_whole = request.since is None or request.full_state
    if is_whole:
        for room in recent:
            others = (nid for key, nid in room.state.items() if key[0] != MEMBER)
            nids.update(islice(others, _STATE))
    events = await sources.live.events.by_nids(nids)
    if not is_whole:
        return
    members: set[int] = set()
    for room, newest in recent.items():
        speakers = {events[nid].pdu.sender for nid in newest if nid in events}
        keys = [(MEMBER, str(each)) for each in (*speakers, request.viewer.user_id)]
        members.update(room.state[key] for key in keys if key in room.state)
    await sources.live.events.by_nids(members)


async def _other_rooms(
    sources: Sources, request: SyncRequest, moved: Moved, extras: Extras
) -> dict[str, JsonValue]:
    """The sections `invite`, `knock` and `leave`, those that are not empty."""
    answer: dict[str, JsonValue] = {}
    user_id = request.viewer.user_id
    keeps = request.filter.room.keeps_room
    stripped: Mapping[int, list[JsonObject]] = {}
    hidden = await invites.hidden(sources.live, user_id, moved.invited)
    invited = {n: m for n, m in moved.invited.items() if n not in hidden}
    pending = [*invited, *moved.knocked]
    if pending:
        async with sources.db.read() as tx:
            stripped = await read_stripped(tx, user_id, pending)
    for name, members in (("invite", invited), ("knock", moved.knocked)):
        sections: dict[str, JsonValue] = {}
        async for room in _rooms(sources, request, members):
            if keeps(room.room_id):
                shown = await pending_section(
                    sources.live, room, members[room.nid], stripped.get(room.nid, ())
                )
                events: list[JsonValue] = list(shown)
                sections[room.room_id] = {f"{name}_state": {"events": events}}
        if sections:
            answer[name] = sections
    left: dict[str, JsonValue] = {}
    unwritten = Unwritten()
    write = renderer(request, sources.clock.ms())
    async for room in _rooms(sources, request, moved.left):
        if keeps(room.room_id):
            member = moved.left[room.nid]
            account_data = extras.account_data.get(room.nid, ())
            left[room.room_id] = await left_section(
                sources, request, room, member, account_data, write, unwritten
            )
    await unwritten.write(sources, write)
    if left:
        answer["leave"] = left
    return answer
