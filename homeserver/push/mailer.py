"""Sends e-mails about what is unread to those who asked for them.

Laws. Whether an e-mail is due is a function of what is unread when it is looked for, so
what was read in time makes none. An e-mail goes into the outbox in the transaction that
moves its pusher on: once, whatever process does it and wherever it is killed.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self
from urllib.parse import urlencode

import msgspec
import orjson
import structlog

from homeserver.accounts.addresses import EMAIL
from homeserver.accounts.store import threepids
from homeserver.context import Context
from homeserver.db.errors import DatabaseError
from homeserver.live.room import Room
from homeserver.mail import messages
from homeserver.mail import store as outbox
from homeserver.mail.messages import Letter, Line, RoomNews, Said
from homeserver.mail.postman import Postman
from homeserver.periodic import Periodic
from homeserver.push import mails, pushers
from homeserver.push.counts import unread_counts
from homeserver.push.mails import DuePusher
from homeserver.push.news import News, Newsroom

PAGE: Final = "/account/unsubscribe"
LONGEST_S: Final = 86_400
_LOOK_EVERY_S: Final = 15.0
_LEASE: Final = timedelta(minutes=2)
_AT_ONCE: Final = 10
_SCHEDULED: Final = 500
_ROOMS: Final = 10  # in one e-mail
_LINES: Final = 5  # of each room
_TEXT: Final = 300  # characters
_NAME: Final = 100
# The tweak of MSC4028's rule: such events wake clients only.
_NO_EMAIL: Final = "org.matrix.msc4062.dont_email"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a pusher's owner is to be told, by room."""

    rooms: dict[int, list[News]]
    upto: int


class _Data(msgspec.Struct):
    brand: str = ""


class Mailer:
    """One process's share of the e-mails; `async with` starts and stops it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._me = secrets.token_hex(8)
        self._postman = ctx.parts.get(Postman)
        self._news = Newsroom(ctx.db, ctx.live, unread_counts(ctx.db, ctx.live))
        self._work = Periodic("push-mails", _LOOK_EVERY_S, self.look)

    async def __aenter__(self) -> Self:
        if self._postman.has_mail:
            await self._work.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._work.__aexit__(None, None, None)

    async def look(self) -> None:
        """See for whom something has happened, and send what is due."""
        delay = timedelta(seconds=self._ctx.config.push.email_delay_s)
        while True:
            async with self._ctx.db.transaction() as tx:
                number = await mails.schedule(tx, delay, _SCHEDULED)
            if number < _SCHEDULED:
                break
        while True:
            async with self._ctx.db.transaction() as tx:
                claimed = await mails.claim(tx, self._me, _LEASE, _AT_ONCE)
            for due in claimed:
                await self._tell(due)
            if len(claimed) < _AT_ONCE:
                break

    async def _tell(self, due: DuePusher) -> None:
        try:
            await self._tell_or_wait(due)
        except (DatabaseError, asyncio.CancelledError):
            raise
        except Exception:  # the others' e-mails must not wait for it
            log.exception("no e-mail about what is unread", user_id=due.user_id)

    async def _tell_or_wait(self, due: DuePusher) -> None:
        async with self._ctx.db.read() as tx:
            owner = await threepids.owner(tx, EMAIL, due.pushkey)
        if owner != due.user_id:
            async with self._ctx.db.transaction() as tx:
                await pushers.delete_pusher(tx, due.user_id, due.app_id, due.pushkey)
            return
        told = await self._unread(due)
        if not told.rooms:
            await self._finish(due, told.upto, None)
            return
        async with self._ctx.db.read() as tx:
            silent = await mails.silent_s(tx, due, list(told.rooms))
        if len(silent) == len(told.rooms):
            await self._finish(due, due.position, min(silent.values()))
            return
        letter = await self._letter(due, told)
        delay_s = self._ctx.config.push.email_delay_s
        async with self._ctx.db.transaction() as tx:
            if not await mails.finish(tx, due, self._me, told.upto, None):
                return
            await mails.note_sent(tx, due, list(told.rooms), delay_s, LONGEST_S)
            await outbox.add(
                tx,
                EMAIL,
                due.pushkey,
                letter.subject,
                letter.plain,
                letter.html,
                self._unsubscribe(due),
            )
        self._postman.wake()

    async def _finish(
        self, due: DuePusher, position: int, look_in_s: float | None
    ) -> None:
        async with self._ctx.db.transaction() as tx:
            await mails.finish(tx, due, self._me, position, look_in_s)

    async def _unread(self, due: DuePusher) -> _Told:
        upto = self._ctx.live.position
        rooms: defaultdict[int, list[News]] = defaultdict(list)
        for news in await self._news.between(due.user_id, due.position, upto):
            tweaks = (a for a in news.outcome.actions if isinstance(a, dict))
            if not any(tweak.get("set_tweak") == _NO_EMAIL for tweak in tweaks):
                rooms[news.room.nid].append(news)
        return _Told(dict(rooms), upto)

    def _unsubscribe(self, due: DuePusher) -> str:
        base = self._ctx.config.public_base_url.rstrip("/")
        return f"{base}{PAGE}?{urlencode({'token': due.token})}"

    # ── What it says ─────────────────────────────────────────────────────────────

    async def _letter(self, due: DuePusher, told: _Told) -> Letter:
        last = sorted(told.rooms.values(), key=lambda found: -found[-1].position)
        rooms = [await self._of_room(found) for found in last[:_ROOMS]]
        return messages.unread(
            due.lang,
            rooms,
            self._unsubscribe(due),
            more_rooms=len(last) - len(rooms),
            brand=_brand(due) or self._ctx.server_name,
            server=self._ctx.server_name,
            account=due.user_id,
        )

    async def _of_room(self, found: Sequence[News]) -> RoomNews:
        room, shown = found[-1].room, found[-_LINES:]
        lines = [await self._line(news) for news in shown]
        name = await self._text(room, ("m.room.name", ""), "name")
        name = name or await self._text(room, ("m.room.canonical_alias", ""), "alias")
        name = name or ", ".join(dict.fromkeys(line.sender for line in lines))
        return RoomNews(name, lines, len(found) - len(shown))

    async def _line(self, news: News) -> Line:
        event = news.event.shown
        key = ("m.room.member", str(event.sender))
        sender = await self._text(news.room, key, "displayname") or str(event.sender)
        if event.type == "m.room.encrypted":
            return Line(sender, Said.ENCRYPTED)
        if event.type == "m.room.member":
            is_invite = event.content.get("membership") == "invite"
            return Line(sender, Said.INVITE if is_invite else Said.OTHER)
        body = event.content.get("body")
        text = _plain(body, _TEXT) if isinstance(body, str) else ""
        return Line(sender, Said.TEXT if text else Said.OTHER, text)

    async def _text(self, room: Room, key: tuple[str, str], name: str) -> str:
        nid = room.state.get(key)
        event = None if nid is None else await self._ctx.live.events.by_nid(nid)
        value = None if event is None else event.shown.content.get(name)
        return _plain(value, _NAME) if isinstance(value, str) else ""


def _plain(text: str, most: int) -> str:
    """A text in one line, without what could disturb it."""
    line = " ".join(text[: 4 * most].split())
    line = "".join(char for char in line if char.isprintable())
    return line if len(line) <= most else line[: most - 1] + "…"


def _brand(due: DuePusher) -> str:
    """What the client calls itself in its pusher's data."""
    try:
        return _plain(msgspec.convert(orjson.loads(due.data), _Data).brand, _NAME)
    except msgspec.ValidationError:
        return ""
