"""`python -m homeserver`, and the `hearth` command."""

from homeserver.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
