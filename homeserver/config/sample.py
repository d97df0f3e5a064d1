"""A hearth.toml that says everything: each key with what it means and its default."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_origin

from msgspec import Struct, structs

from homeserver.config.reading import meta_of, section_type
from homeserver.config.sections import Config
from homeserver.config.text import comment, to_toml

HEAD: Final = """\
# Hearth's configuration. Every key is shown with its default and may be left out.
# `hearth config check` tells what is wrong with a file, and where.
"""


def render(values: Mapping[str, Any] | None = None, head: str = HEAD) -> str:
    """The file's text; `values` replace defaults, by names as "listen.port"."""
    values = values or {}
    lines = [head.rstrip("\n"), "", *_keys(Config(), values, "")]
    for one in structs.fields(Config):
        section = section_type(one.type)
        if section is not None:
            many = get_origin(one.type) is tuple
            lines += ["", "", *comment(" ".join((section.__doc__ or "").split()))]
            shown = [f"[[{one.name}]]" if many else f"[{one.name}]", ""]
            shown += _keys(section(), values, f"{one.name}.")
            # What there is none of by default is shown, but does not count.
            is_there = not many or getattr(Config(), one.name)
            lines += shown if is_there else [f"# {line}".rstrip() for line in shown]
    return "\n".join(lines) + "\n"


def _keys(struct: Struct, values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    first = True
    for one in structs.fields(struct):
        if section_type(one.type) is not None:
            continue
        _, meta = meta_of(one.type)
        if not first:
            yield ""
        first = False
        yield from comment(meta.description or "")
        value = values.get(prefix + one.name, getattr(struct, one.name))
        yield f"{one.name} = {to_toml(value)}"
