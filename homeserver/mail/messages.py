"""What messages say, in the reader's language.

English texts are their own names, as on pages. A link stands alone in its line, so that
every program finds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from homeserver.mail.german import GERMAN
from homeserver.pages.languages import Language, preferred
from homeserver.pages.templating import environment

_TEMPLATES: Final = Path(__file__).parent / "templates"
_CATALOGUES: Final[Mapping[str, Mapping[str, str]]] = {"de": GERMAN}


@dataclass(frozen=True, slots=True)
class Letter:
    """A message before it is addressed."""

    subject: str
    plain: str
    html: str


@dataclass(frozen=True, slots=True)
class Words:
    """What one message says; texts are English and may hold `{server}` and more."""

    subject: str
    before: Sequence[str]
    button: str = ""
    after: Sequence[str] = ()


IGNORE: Final = "If this was not you, ignore this message: nothing happens then."

CONFIRM_REGISTRATION: Final = Words(
    "Confirm your e-mail address for {server}",
    ("Somebody, hopefully you, makes an account on {server} with this address.",),
    "Confirm the address",
    (IGNORE,),
)
CONFIRM_ADDITION: Final = Words(
    "Confirm your e-mail address for {server}",
    ("Somebody, hopefully you, adds this address to an account on {server}.",),
    "Confirm the address",
    (IGNORE,),
)
RESET_PASSWORD: Final = Words(
    "Choose a new password for {server}",
    (
        "Somebody, hopefully you, wants a new password for the account {account}.",
        "Confirm that it is you, and go back to where you began.",
    ),
    "It is me",
    ("If this was not you, ignore this message: your password stays as it is.",),
)
NO_ACCOUNT: Final = Words(
    "No account at {server} has this address",
    (
        (
            "Somebody, hopefully you, wants a new password for an account on {server},"
            " but none has this address."
        ),
        "Perhaps you gave another address when you made your account.",
    ),
)
ADDRESS_TAKEN: Final = Words(
    "You have an account at {server}",
    (
        (
            "Somebody, hopefully you, wants to use this address for an account on"
            " {server}. It belongs to the account {account} already."
        ),
        (
            "If you have forgotten your password, have it reset in your app where you"
            " log in."
        ),
    ),
)
APPROVED: Final = Words(
    "Your account at {server} is ready",
    ("An administrator has approved your account {account}. You can log in now.",),
)
CODE: Final = "{code} is your code for {server}"


def letter(words: Words, accepted: str, link: str = "", **values: str) -> Letter:
    """The message in the language that an Accept-Language header prefers."""
    say = _Speaker(preferred(accepted), values)
    before = [say(text) for text in words.before]
    after = [say(text) for text in words.after]
    middle = [link] if link else []
    html = (
        environment(_TEMPLATES)
        .get_template("letter.html")
        .render(
            language=say.language.code,
            subject=say(words.subject),
            before=before,
            link=link,
            button=say(words.button) if words.button else "",
            after=after,
        )
    )
    plain = "\n\n".join([*before, *middle, *after]) + "\n"
    return Letter(say(words.subject), plain, html)


# ── What is unread ───────────────────────────────────────────────────────────────────


class Said(StrEnum):
    """What is told of a message; nothing but that it is there, for most."""

    TEXT = ""
    ENCRYPTED = "An encrypted message"
    INVITE = "An invitation to this room"
    OTHER = "Something that is no text"


@dataclass(frozen=True, slots=True)
class Line:
    """One message: who sent it, and its text if it may be told."""

    sender: str
    said: Said
    text: str = ""


@dataclass(frozen=True, slots=True)
class RoomNews:
    """What is unread in a room: the last messages, and how many came before them."""

    name: str
    lines: Sequence[Line]
    more: int = 0


UNREAD: Final = "{brand}: unread messages on {server}"
WAITING: Final = "There is something that you have not read yet, {account}."
MORE: Final = "{count} more"
MORE_ROOMS: Final = "There is more in {count} other rooms."
NO_MORE_MAILS: Final = "I want no more of these e-mails"


def unread(
    accepted: str,
    rooms: Sequence[RoomNews],
    unsubscribe: str,
    *,
    more_rooms: int = 0,
    **values: str,
) -> Letter:
    """The message about what is unread; `values`: brand, server, account."""
    language = preferred(accepted)
    say = _Speaker(language, values)
    shown = [
        (
            room.name,
            _Speaker(language, {"count": str(room.more)})(MORE) if room.more else "",
            [(line.sender, line.text or say(line.said.value)) for line in room.lines],
        )
        for room in rooms
    ]
    rest = ""
    if more_rooms:
        rest = _Speaker(language, {"count": str(more_rooms)})(MORE_ROOMS)
    subject, waiting = say(UNREAD), say(WAITING)
    parts = [waiting]
    for name, more, lines in shown:
        said = [f"  {sender}: {text}" for sender, text in lines]
        parts.append("\n".join([name, *([f"  ({more})"] if more else []), *said]))
    parts += [rest] if rest else []
    parts += [say(NO_MORE_MAILS) + ":", unsubscribe]
    html = (
        environment(_TEMPLATES)
        .get_template("unread.html")
        .render(
            language=language.code,
            subject=subject,
            waiting=waiting,
            rooms=shown,
            rest=rest,
            unsubscribe=unsubscribe,
            no_more=say(NO_MORE_MAILS),
        )
    )
    return Letter(subject, "\n\n".join(parts) + "\n", html)


def code(accepted: str, number: str, server: str) -> str:
    """The text message with a code."""
    return _Speaker(preferred(accepted), {"code": number, "server": server})(CODE)


@dataclass(frozen=True, slots=True)
class _Speaker:
    language: Language
    values: Mapping[str, str]

    def __call__(self, text: str) -> str:
        found = _CATALOGUES.get(self.language.code, {}).get(text, text)
        return found.format(**self.values)
