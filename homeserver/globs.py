"""Glob-style patterns, matched in time that grows only with text times pattern.

Spec: appendices#glob-style-matching
"""

import re
from collections.abc import Sequence
from typing import Final

MAX_PATTERN: Final = 512  # characters; longer ones match nothing
# Not `\b`: only these characters make words, whatever the case or script.
_BEFORE: Final = r"(?<!(?-i:[A-Za-z0-9_]))"
_AFTER: Final = r"(?!(?-i:[A-Za-z0-9_]))"
_FLAGS: Final = re.IGNORECASE | re.DOTALL


class Glob:
    """A pattern that matches a whole text, or one that matches words within it."""

    __slots__ = ("_first", "_last", "_middle", "_plain", "_words")

    def __init__(self, pattern: str, *, words: bool = False) -> None:
        self._words = words
        # Between stars stand pieces of fixed length, each of which is searched for
        # once: a star may stand for anything, so the first find is as good as any.
        pieces = pattern.split("*")
        last = pieces.pop()
        self._plain: re.Pattern[str] | None = None
        self._first: re.Pattern[str] | None = None
        self._middle: Sequence[re.Pattern[str]] = ()
        if not pieces:
            self._plain = _compile(last, before=words, after=words)
            return
        self._first = _compile(pieces[0], before=words)
        self._middle = [_compile(piece) for piece in pieces[1:] if piece]
        self._last = _compile(last, after=words) if words else _compile(last, end=True)

    def matches(self, text: str) -> bool:
        """Whether the text matches."""
        if self._plain is not None:
            if self._words:
                return self._plain.search(text) is not None
            return self._plain.fullmatch(text) is not None
        if self._first is None:
            return False
        found = self._first.search(text) if self._words else self._first.match(text)
        for piece in self._middle:
            if found is None:
                return False
            found = piece.search(text, found.end())
        return found is not None and self._last.search(text, found.end()) is not None


def _compile(
    piece: str, *, before: bool = False, after: bool = False, end: bool = False
) -> re.Pattern[str]:
    expression = "".join("." if char == "?" else re.escape(char) for char in piece)
    if before:
        expression = _BEFORE + expression
    if after:
        expression += _AFTER
    if end:
        expression += r"\Z"
    return re.compile(expression, _FLAGS)
