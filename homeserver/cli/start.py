"""`hearth serve`: in this process, in several, or as one of these."""

import sys
from importlib import import_module

from homeserver.cli import family
from homeserver.cli.arguments import Arguments, config_file
from homeserver.cli.slot import Slot
from homeserver.cli.steps import ending_well_or_told
from homeserver.config import Config


def start(arguments: Arguments) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises: what EXPECTED names.

    The parent of several processes never loads the server.
    """
    if slot := Slot.ours():
        import_module("homeserver.cli.serve").serve_in(slot)
        return
    file = config_file(arguments.file)
    config = Config.load(file)
    processes = arguments.processes or config.processes
    if processes > 1:
        family.serve(config, file, arguments.file, processes)
    else:
        import_module("homeserver.cli.serve").serve(config, arguments.file)


def main(arguments: Arguments) -> None:
    """The whole process of a server."""
    ending_well_or_told(lambda: start(arguments))
    sys.exit(0)
