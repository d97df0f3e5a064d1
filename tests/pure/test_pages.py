"""The texts of pages are all there in German, and templates keep to the layout."""

import ast
import re
from pathlib import Path

import pytest

from homeserver.pages.german import GERMAN
from homeserver.pages.languages import Language, preferred

ROOT = Path(__file__).parents[2] / "homeserver"
TEMPLATES = ROOT / "pages" / "templates"
_TEXT = re.compile(r"""_\(\s*"((?:[^"\\]|\\.)*)\"""")
_NAMES = re.compile(r"\{(\w+)\}")


def texts_of_templates() -> set[str]:
    return {
        text
        for template in TEMPLATES.rglob("*.html")
        for text in _TEXT.findall(template.read_text())
    }


def texts_of_code() -> set[str]:
    """What `say("…")` translates."""
    return {
        call.args[0].value
        for path in ROOT.rglob("*.py")
        if "homeserver.pages" in path.read_text()
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", getattr(call.func, "attr", "")) == "say"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }


def test_every_text_is_there_in_german() -> None:
    assert (texts_of_templates() | texts_of_code()) - GERMAN.keys() == set()


def test_translations_name_the_same_values() -> None:
    wrong = {
        text: german
        for text, german in GERMAN.items()
        if set(_NAMES.findall(text)) != set(_NAMES.findall(german))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.name
)
def test_a_template_runs_no_script_and_guards_its_forms(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\son\w+=|javascript:|style=", text)
    forms = re.findall(r'<form method="post".*?</form>', text, re.DOTALL)
    assert len(forms) == text.count("<form")
    # Who has the link from the mail may press its button: no session stands behind it.
    if path.name != "unsubscribe.html":
        assert all("{{ csrf }}" in form for form in forms)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr,en;q=0.4,de;q=0.5", "de"),
        ("de;q=0,fr", "en"),
        ("de;q=x", "en"),
        ("DE_de, ;;==", "en"),
    ],
)
def test_the_reader_s_language_is_taken(header: str, code: str) -> None:
    assert preferred(header).code == code


def test_a_text_without_translation_stays_as_it_is() -> None:
    assert Language("de")("{name} is unheard of.", name="x") == "x is unheard of."
