"""Templates that are filled in safely: of pages, and of messages."""

import functools
from pathlib import Path

import jinja2


@functools.cache
def environment(folder: Path) -> "jinja2.Environment":
    """The templates of a folder: HTML is escaped, and nothing may be missing."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
