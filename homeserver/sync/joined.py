"""The section of one joined room."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver.events.client_format import Sight
from homeserver.live.room import Member, Room
from homeserver.push.counts import Unread
from homeserver.rooms.viewing import Reader
from homeserver.sync.request import Rendered, Sources, SyncRequest
from homeserver.sync.states import MEMBER, read_change, state_section
from homeserver.sync.sticky import SECTION, Delivered, news_of
from homeserver.sync.summary import read_heroes, summary_of
from homeserver.sync.timelines import read_timeline, room_state_at
from homeserver.sync.unwritten import Unwritten


@dataclass(frozen=True, slots=True)
class Extras:
    """What moved in rooms beside events, by room number, ready to send."""

    ephemeral: Mapping[int, Sequence[JsonObject]] = field(default_factory=dict)
    account_data: Mapping[int, Sequence[JsonObject]] = field(default_factory=dict)
    sticky: Mapping[int, Sequence[Delivered]] = field(default_factory=dict)


async def was_joined(
    sources: Sources, room: Room, user_id: UserId, since: int | None, member: Member
) -> bool:
    """Whether the user was joined at that position already."""
    if since is None:
        return False
    if member.position <= since:
        return True
    if not await was_whole(sources, since, member):
        return False
    root = await room_state_at(sources.db, sources.live, room, since)
    key = (MEMBER, str(user_id))
    nid = (await sources.live.states.get(root, (key,))).get(key)
    event = None if nid is None else await sources.live.events.by_nid(nid)
    return event is not None and event.pdu.membership == "join"


async def was_whole(sources: Sources, since: int, member: Member) -> bool:
    """Whether the room's members had come at a position at which the user was joined.

    When they come, the user's membership moves, and no event says so.
    """
    if member.position <= since:
        return True
    own = await sources.live.events.by_nid(member.event_nid)
    return own is None or own.position is None or own.position > since


async def joined_section(
    sources: Sources,
    request: SyncRequest,
    room: Room,
    member: Member,
    upto: int,
    extras: Extras,
    unread: Unread,
    write: Callable[[Sight], Rendered],
    unwritten: Unwritten,
) -> JsonObject | None:
    """What is new of a joined room; None when nothing is."""
    live = sources.live
    reader = Reader(request.viewer.user_id, member)
    user_id = request.viewer.user_id
    known = await was_joined(sources, room, user_id, request.since, member)
    since = request.since if known else None
    timeline = await read_timeline(
        sources.db,
        live,
        room,
        reader,
        since,
        upto,
        request.filter.room.timeline,
    )
    whole = since is None or request.full_state
    change = await read_change(
        sources, request, room, timeline, None if whole else since
    )
    moved = change.members_moved or _has_member_events(timeline.sights)
    heroes = []
    if moved:
        heroes = await read_heroes(live, room, request.viewer.user_id)
    state = await state_section(
        sources, request, room, timeline, change, upto, heroes, write, whole=whole
    )
    ephemeral = extras.ephemeral.get(room.nid, ())
    account_data = extras.account_data.get(room.nid, ())
    read_more = unread.marks.moved > (since or 0)
    shown = {sight.event.event_id for sight in timeline.sights}
    sticky = news_of(extras.sticky.get(room.nid, ()), since or 0, shown)
    news = (timeline.sights, state, ephemeral, account_data, read_more, sticky)
    if not whole and not any(news):
        return None
    if since is None or timeline.limited:
        written = unwritten.add(reader, timeline.sights)
    else:
        written = [write(sight) for sight in timeline.sights]
    section: JsonObject = {
        "timeline": {
            "events": written,  # type: ignore[dict-item]
            "limited": timeline.limited,
            "prev_batch": str(timeline.prev_batch),
        },
        request.state_name: {"events": state},  # type: ignore[dict-item]
        "account_data": {"events": list(account_data)},
        "ephemeral": {"events": list(ephemeral)},
        **_unread(request, unread),
        "summary": summary_of(room, heroes) if moved else {},
    }
    if sticky:
        section[SECTION] = {"events": [write(sight) for sight in sticky]}  # type: ignore[misc]
    return section


def _has_member_events(sights: Sequence[Sight]) -> bool:
    return any(sight.event.pdu.type == MEMBER for sight in sights)


def _unread(request: SyncRequest, unread: Unread) -> JsonObject:
    """What is unread, each thread apart when the client knows threads."""
    if not request.filter.room.timeline.unread_thread_notifications:
        return {"unread_notifications": _count(unread.total())}
    shown: JsonObject = {"unread_notifications": _count(unread.main())}
    threads = unread.threads()
    if threads:
        shown["unread_thread_notifications"] = {
            thread: _count(count) for thread, count in threads.items()
        }
    return shown


def _count(count: tuple[int, int]) -> JsonObject:
    return {"notification_count": count[0], "highlight_count": count[1]}
