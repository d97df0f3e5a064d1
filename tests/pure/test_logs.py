"""Log lines are lines, and hold no secrets."""

import io
import json
import logging

import pytest
import structlog

from homeserver import logs
from homeserver.db.errors import DatabaseUnavailable


@pytest.fixture
def logged():
    """Sets the log up and answers its lines."""
    stream = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level

    def set_up(level="info", form="text"):
        logs.set_up(level, form, stream)
        return lambda: stream.getvalue().splitlines()

    yield set_up
    structlog.reset_defaults()
    logging.getLogger().handlers, level = before
    logging.getLogger().setLevel(level)


def test_an_event_is_one_line_with_time_level_module_and_values(logged):
    lines = logged()
    structlog.get_logger("homeserver.x").info(
        "it began", room="!a:b", text="two\nlines"
    )
    (line,) = lines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == "info    homeserver.x: it began room=!a:b text='two\\nlines'"


def test_lines_below_the_level_are_left_out(logged):
    lines = logged("warning")
    log = structlog.get_logger("x")
    log.info("no")
    log.warning("yes")
    assert [line.split(": ")[1] for line in lines()] == ["yes"]


def test_json_lines(logged):
    lines = logged(form="json")
    try:
        int("oh")
    except ValueError:
        structlog.get_logger("x").exception("it failed", number=3, path={"a": 1})
    (line,) = lines()
    event = json.loads(line)
    assert event["event"] == "it failed"
    assert event["number"] == 3
    assert event["path"] == {"a": 1}
    assert event["level"] == "error"
    assert "ValueError: invalid literal" in event["exception"]


def test_a_traceback_stands_indented_below_its_line(logged):
    lines = logged()
    try:
        int("oh")
    except ValueError:
        structlog.get_logger("x").exception("it failed")
    assert lines()[0].endswith("x: it failed")
    assert lines()[-1].startswith("  | ValueError: invalid literal")


def test_other_libraries_come_the_same_way(logged):
    lines = logged()
    logging.getLogger("asyncio").error("task %s was lost", 7)
    logging.getLogger("aiohttp").info("not worth a line")
    (line,) = lines()
    assert line.endswith("error   asyncio: task 7 was lost")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "values",
    [
        {"access_token": "hush"},
        {"password": "hush"},
        {"Authorization": "Bearer hush"},
        {"shared_secret": "hush", "user": "@a:b"},
        {"path": "/_matrix/client/v3/sync?timeout=0&access_token=hush&since=s1"},
        {"header": "Bearer hush"},
        {"dsn": "postgresql://hearth:hush@db/hearth"},
        {"body": {"user": "a", "password": "hush"}},
        {"body": '{"access_token": "hush"}'},
        {"error": ValueError("access_token=hush")},
        {"event": "login with access_token=hush"},
    ],
)
def test_secrets_are_hidden_wherever_they_stand(logged, form, values):
    lines = logged(form=form)
    log = structlog.get_logger("x")
    log.info(**{"event": "something", **values})
    (line,) = lines()
    assert "hush" not in line
    assert logs.HIDDEN in line


def test_what_is_harmless_stays(logged):
    lines = logged()
    url = "https://matrix.org:8448/_matrix/key/v2/server?since=s1"
    structlog.get_logger("x").info("asked", url=url, user="@a:b.org", key="ed25519:a")
    assert url in lines()[0].replace("'", "")
    assert "@a:b.org" in lines()[0]
    assert "ed25519:a" in lines()[0]


def test_lines_are_bounded(logged):
    lines = logged()
    structlog.get_logger("x").info("long", text="a" * 100_000, other=["b" * 100_000])
    assert len(lines()[0]) < 5_000


def test_an_outage_leaves_no_trace_and_a_slip_does(logged):
    lines = logged()
    log = structlog.get_logger("x")
    for error in (DatabaseUnavailable("it is away"), KeyError("slip")):
        log.error("work failed", exc_info=error)
    (outage, slip, *trace) = lines()
    assert outage.endswith("work failed reason='it is away'")
    assert slip.endswith("work failed")
    assert "KeyError" in trace[-1]
