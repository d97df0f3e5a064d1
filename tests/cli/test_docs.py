"""What the pages for people say is true of the code."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from homeserver.cli.main import commands
from homeserver.config import Config

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", "deploy/hearth.service", "deploy/compose.yaml"]


def known_commands(group):
    """The commands of the command line, as lists of words, with their options."""
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            for words, inner in known_commands(command).items():
                found[(name, *words)] = inner
        else:
            found[(name,)] = {o for p in command.params for o in p.opts}
    return found


KNOWN = known_commands(typer.main.get_command(commands))


def mentioned_commands(text):
    """What stands after `hearth` where a command line is meant."""
    text = text.replace("\\\n#", " ").replace("\\\n", " ")
    for match in re.finditer(r"(?<![\w-])hearth((?: +[\w\[@./:-]+\]?)+)", text):
        words = shlex.split(re.sub(r"[\[\]`]", "", match[1]))
        if words and words[0] in {name for name, *_ in KNOWN} | {"--config"}:
            yield words


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_that_are_mentioned_exist(page):
    found = list(mentioned_commands((REPOSITORY / page).read_text()))
    for line in found:
        words = line[2:] if line[0] == "--config" else line
        name = next(n for n in (tuple(words[:2]), tuple(words[:1])) if n in KNOWN)
        options = {word for word in words if word.startswith("--")}
        assert options <= KNOWN[name], words
    assert page == "CONTRIBUTING.md" or found


def test_make_targets_that_are_mentioned_exist():
    targets = set(
        re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    )
    for page in PAGES:
        text = (REPOSITORY / page).read_text()
        mentioned = set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
        mentioned |= set(re.findall(r"`make ([a-z]+)", text))
        assert mentioned <= targets, page


def test_the_map_of_the_tree_is_right():
    table = README.split("## Where things are")[1].split("##")[0]
    for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE):
        for path in re.findall(r"`([^`]+)`", cell):
            places = (REPOSITORY / path, REPOSITORY / "homeserver" / path)
            assert any(place.exists() for place in places), path


def test_links_lead_to_files():
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / page).read_text()):
            if "://" not in target:
                assert (REPOSITORY / target).exists(), target


def test_configurations_that_are_shown_are_good(tmp_path):
    shown = re.findall(r"^ *```toml\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    assert shown
    for text in shown:
        for name in re.findall(r'"([a-z]+\.(?:pem|yaml))"', text):
            (tmp_path / name).touch()
        (tmp_path / "hearth.toml").write_text(text)
        Config.load(tmp_path / "hearth.toml")
