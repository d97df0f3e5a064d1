"""What names are looked up by: pure."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

MAX_NAME: Final = 256  # characters of a name that are looked at
_MAX_WORDS: Final = 120
_MAX_WORD: Final = 64
_WORD: Final = re.compile(r"[^\W_]+")
# Scripts without spaces between words: Chinese, Japanese, Korean, Thai, Lao, Khmer.
_DENSE: Final = re.compile(
    "[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)


def fold(text: str) -> str:
    """Text without what makes no difference: case, accents, kinds of width."""
    plain = unicodedata.normalize("NFKD", text[:MAX_NAME].replace("\0", " "))
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare.casefold()).strip()


def words_of(text: str) -> list[str]:
    """The words of folded text; of dense scripts each character and each pair."""
    found: dict[str, None] = {}
    for run in _WORD.findall(text):
        at = 0
        for dense in _DENSE.finditer(run):
            found.update(dict.fromkeys(filter(None, (run[at : dense.start()],))))
            found.update(dict.fromkeys(dense.group()))
            found.update(dict.fromkeys(_grams(dense.group(), 2)))
            at = dense.end()
        found.update(dict.fromkeys(filter(None, (run[at:],))))
    return [word[:_MAX_WORD] for word in found][:_MAX_WORDS]


def asked_words(text: str) -> list[str]:
    """The words of a folded search term: all of them have to begin one of a name.

    Of dense scripts the pairs, or the only character.
    """
    found: dict[str, None] = {}
    for run in _WORD.findall(text):
        at = 0
        for dense in _DENSE.finditer(run):
            found.update(dict.fromkeys(filter(None, (run[at : dense.start()],))))
            pairs = _grams(dense.group(), 2)
            found.update(dict.fromkeys(pairs or [dense.group()]))
            at = dense.end()
        found.update(dict.fromkeys(filter(None, (run[at:],))))
    return [word[:_MAX_WORD] for word in found][:_MAX_WORDS]


def triples_of(text: str) -> list[str]:
    """Triples of letters of each word, with its ends, for what is nearly right."""
    found: dict[str, None] = {}
    for word in _WORD.findall(text):
        found.update(dict.fromkeys(_grams(f" {word[:_MAX_WORD]} ", 3)))
    return list(found)[: _MAX_WORDS * 2]


def likeness(one: Iterable[str], two: Iterable[str]) -> float:
    """How much two sets of triples have in common: 0 to 1."""
    first, second = set(one), set(two)
    if not first or not second:
        return 0.0
    return 2 * len(first & second) / (len(first) + len(second))


def _grams(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(len(text) - size + 1)]
