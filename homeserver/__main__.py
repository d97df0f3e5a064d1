"""`python -m homeserver`, and the `hearth` command."""

import sys
from importlib import import_module

_PAINTER = "rich"


def main() -> None:
    """Run the command line; a server without what only other commands need."""
    if "serve" not in sys.argv[1:] or not {"-h", "--help"}.isdisjoint(sys.argv):
        import_module("homeserver.cli.main").main()
        return
    # structlog takes the painter of tracebacks in when it is there: 4 MB.
    sys.modules[_PAINTER] = None  # type: ignore[assignment]
    serve = import_module("homeserver.cli.serve")
    del sys.modules[_PAINTER]
    fits, named = serve.named_file(sys.argv[1:])
    if fits:
        serve.main(named)
    import_module("homeserver.cli.main").main()


if __name__ == "__main__":
    main()
