"""What messages say, in the reader's language.

English texts are their own names, as on pages. A link stands alone in its line, so that
every program finds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
