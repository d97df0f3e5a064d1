import subprocess
import sys


def said(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_a_module_is_read_when_something_of_it_is_used():
    program = """
from homeserver.later import load_later
load_later(["difflib", "colorsys_is_not_there", "sys"])
import difflib
print("SequenceMatcher" in vars(difflib))
print(difflib.get_close_matches("hearht", ["hearth"])[0])
print("SequenceMatcher" in vars(difflib))
"""
    assert said(program) == ["False", "hearth", "True"]


def test_a_server_starts_without_what_it_may_never_need():
    program = """
import sys
from homeserver import __main__ as command
from homeserver.later import load_later
load_later(command.LATER)
import homeserver.cli.serve
for name in command.LATER:
    if type(sys.modules[name]).__name__ == "module":
        print(name)
"""
    assert said(program) == [], "names of these are used while modules are loaded"
