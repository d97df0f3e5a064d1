"""`python -m homeserver`, and the `hearth` command."""

import sys
from importlib import import_module

from homeserver.later import load_later

_PAINTER = "rich"
# For what a server may never be asked: 5 MB.
LATER = (
    "aiosmtplib",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "difflib",
    "http_ece",
    "jinja2",
    "joserfc.jwk",
    "joserfc.jwt",
    "phonenumbers",
    "py_vapid",
    "yaml",
)


def main() -> None:
    """Run the command line; a server without what only other commands need."""
    if "serve" not in sys.argv[1:] or not {"-h", "--help"}.isdisjoint(sys.argv):
        import_module("homeserver.cli.main").main()
        return
    # structlog takes the painter of tracebacks in when it is there: 4 MB.
    sys.modules[_PAINTER] = None  # type: ignore[assignment]
    load_later(LATER)
    arguments = import_module("homeserver.cli.arguments").of_serve(sys.argv[1:])
    start = import_module("homeserver.cli.start") if arguments else None
    del sys.modules[_PAINTER]
    if start is not None:
        start.main(arguments)
    import_module("homeserver.cli.main").main()


if __name__ == "__main__":
    main()
