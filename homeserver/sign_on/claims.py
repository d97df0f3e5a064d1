"""What a provider says of somebody, made into what we keep. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_PLACE: Final = re.compile(r"\{([^{}]+)\}")
# What no user ID of ours has.
_NOT_ALLOWED: Final = re.compile(r"[^a-z0-9._=/+-]")
_MAX_TEXT: Final = 255


def find(claims: Mapping[str, Any], name: str) -> object:
    """The claim of that name; dots lead into objects. None: there is none."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _text(value: object) -> str:
    if isinstance(value, list) and value:
        value = value[0]  # CAS and SAML have lists of one
    if isinstance(value, str):
        return value.replace("\0", "").strip()
    return str(value) if isinstance(value, int) and value is not True else ""


def fill(template: str, claims: Mapping[str, Any]) -> str:
    """The template with claims in it; empty when one of them is missing."""
    missing = False

    def put(match: re.Match[str]) -> str:
        nonlocal missing
        text = _text(find(claims, match[1]))
        missing = missing or not text
        return text

    filled = _PLACE.sub(put, template)
    return "" if missing else filled[:_MAX_TEXT]


def localpart(template: str, claims: Mapping[str, Any]) -> str:
    """A name that an account can have, as near as may be to what is filled in.

    Spec: appendices#mapping-from-other-character-sets
    """
    filled = fill(template, claims).lower()
    # Of an e-mail address only what stands before the @.
    return _NOT_ALLOWED.sub("", filled.partition("@")[0]).lstrip("_")


def lacking(required: Sequence[str], claims: Mapping[str, Any]) -> str:
    """The first claim that is not, and does not hold, what it must; empty: all do."""
    wanted: dict[str, set[str]] = {}
    for pair in required:
        name, _, value = pair.partition("=")
        wanted.setdefault(name, set()).add(value)
    for name, values in wanted.items():
        found = find(claims, name)
        held = found if isinstance(found, list) else [] if found is None else [found]
        if values.isdisjoint(_shown(each) for each in held):
            return name
    return ""


def _shown(value: object) -> str:
    """A claim's value as it stands in the configuration."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
