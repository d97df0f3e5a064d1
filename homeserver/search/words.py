"""Texts as the words that are searched for. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

MAX_WORD: Final = 100
MAX_WORDS: Final = 4000  # of one text
MAX_TERMS: Final = 50  # of one search

# Scripts without spaces between words: each pair of characters counts as a word.
_SPACELESS: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007"
    "\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f"
    "\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_PIECE: Final = re.compile(rf"[{_SPACELESS}]+|[^\W_{_SPACELESS}]+")
_SPACELESS_PIECE: Final = re.compile(rf"[{_SPACELESS}]+")
_ACCENTS: Final = re.compile("[\u0300-\u036f]+")


def normal(text: str) -> str:
    """The text without case, accents and variants of characters."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", apart))


def pieces(text: str) -> list[str]:
    """Runs of letters and digits of a normal text, each of one kind of script."""
    return [piece[:MAX_WORD] for piece in _PIECE.findall(text)]


def is_spaceless(piece: str) -> bool:
    """Whether the piece is of a script without spaces between words."""
    return _SPACELESS_PIECE.fullmatch(piece) is not None


def _pairs(piece: str) -> list[str]:
    return [piece[i : i + 2] for i in range(len(piece) - 1)]


def words_of(text: str) -> list[str]:
    """What a text is found by. The last character of a run counts alone too."""
    found: list[str] = []
    for piece in pieces(normal(text)):
        if is_spaceless(piece):
            found += (*_pairs(piece), piece[-1])
        else:
            found.append(piece)
        if len(found) >= MAX_WORDS:
            break
    return found[:MAX_WORDS]


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for: all of these pieces, words as beginnings of words."""

    terms: Sequence[str]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to search for."""
        return not self.terms

    def tsquery(self) -> str:
        """What PostgreSQL is asked; letters and digits need no more than quotes."""
        return " & ".join(f"'{each}':*" for each in self._lexemes())

    def exact(self) -> str:
        """The same with whole words."""
        return " & ".join(f"'{each}'" for each in self._lexemes())

    def _lexemes(self) -> list[str]:
        lexemes: dict[str, None] = {}
        for term in self.terms:
            several = is_spaceless(term) and len(term) > 1
            lexemes.update(dict.fromkeys(_pairs(term) if several else (term,)))
        return list(lexemes)

    def is_in(self, text: str) -> bool:
        """Whether the text has it; pairs alone may stand in another order."""
        longer = [t for t in self.terms if is_spaceless(t) and len(t) > 2]
        if not longer:
            return True
        plain = normal(text)
        return all(term in plain for term in longer)

    def highlights(self, texts: Iterable[str], most: int) -> list[str]:
        """What of the texts matches, as it is written there."""
        found: dict[str, None] = {}
        for text in texts:
            for written in _PIECE.findall(text):
                plain = normal(written)
                if is_spaceless(plain):
                    found.update(dict.fromkeys(t for t in self.terms if t in plain))
                elif any(plain.startswith(term) for term in self.terms):
                    found[written] = None
                if len(found) >= most:
                    return list(found)[:most]
        return list(found)


def parse_query(text: str) -> Query:
    """What a user typed."""
    return Query(tuple(dict.fromkeys(pieces(normal(text))))[:MAX_TERMS])
