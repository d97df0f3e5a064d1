"""Which language a reader gets, and the texts in it.

English texts are their own names; a text that a language lacks stays English.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from homeserver.pages.german import GERMAN

ENGLISH: Final = "en"
CATALOGUES: Final[Mapping[str, Mapping[str, str]]] = {ENGLISH: {}, "de": GERMAN}
_MAX_HEADER: Final = 500


@dataclass(frozen=True, slots=True)
class Language:
    """A language, called with an English text and what its `{names}` stand for."""

    code: str

    def __call__(self, text: str, **values: object) -> str:
        """The text in this language."""
        found = CATALOGUES[self.code].get(text, text)
        return found.format(**values) if values else found


def preferred(header: str) -> Language:
    """The first of ours in an `Accept-Language` header; English without one."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(header[:_MAX_HEADER].split(",")):
        tag, _, parameters = part.partition(";")
        code = tag.strip().lower().partition("-")[0]
        weight = _weight(parameters)
        if code in CATALOGUES and weight > 0:
            wanted.append((-weight, place, code))
    return Language(min(wanted)[2] if wanted else ENGLISH)


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name != "q":
        return 1.0
    try:
        return min(float(value), 1.0)
    except ValueError:
        return 0.0
