"""The log: one line for each event, to standard error, and never a secret in it.

Modules say `log = structlog.get_logger(__name__)` and `log.info("what", key=value)`.
What other libraries say through `logging` comes the same way.

Tokens, passwords and keys are cut out by the names of their keys and by their looks in
URLs and headers. That is the safety net; whoever writes a log line does not put them
in, nor what people wrote to each other.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

MAX_VALUE: Final = 2_000
MAX_TRACEBACK: Final = 20_000
HIDDEN: Final = "(hidden)"

_SECRET_KEYS: Final = re.compile(
    r"(?:.*_)?(?:token|secret|password|passwd|authorization|cookie|mac|signing_key)",
    re.IGNORECASE,
)
# In queries and JSON, in headers, and in the user part of a URL.
_SECRETS_IN_TEXT: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"""([\w-]*(?:token|secret|password)["']?\s*[=:]\s*["']?)[^\s"'&,}]+""",
        r"(\bBearer\s+)[^\s\"',]+",
        r"(://[^:/@\s]*:)[^@\s/]+(?=@)",
    )
)
_NEEDS_QUOTES: Final = re.compile(r"[\s\"'=]|^$")


class _Named:
    """What structlog wraps: where a line goes, and which module says it."""

    __slots__ = ("_stream", "name")

    def __init__(self, name: str, stream: TextIO | None) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write the line."""
        # Looked up late: whoever replaces sys.stderr gets the log as well.
        stream = self._stream or sys.stderr
        stream.write(line + "\n")
        stream.flush()

    debug = info = warning = error = critical = fatal = exception = log = msg


class _FromLogging(logging.Handler):
    """Hands on what libraries say through `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event of ours."""
        logger = structlog.get_logger(record.name)
        level = record.levelno if record.levelno in _LEVELS else logging.INFO
        logger.log(level, record.getMessage(), exc_info=record.exc_info or None)


_LEVELS: Final = (
    logging.DEBUG,
    logging.INFO,
    logging.WARNING,
    logging.ERROR,
    logging.CRITICAL,
)


def set_up(
    level: str,
    form: str = "text",
    stream: TextIO | None = None,
    process: int | None = None,
) -> None:
    """Log events from this level on ("debug" … "error"), as "text" or "json" lines.

    One of several processes that share the log says its number in each line.
    """

    def add_process(_: object, __: str, event: EventDict) -> EventDict:
        if process is not None:
            event["process"] = process
        return event

    least = logging.getLevelNamesMapping()[level.upper()]
    render: Processor = _as_json if form == "json" else _as_text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _spare_traces,
            structlog.processors.format_exc_info,
            _add_name,
            add_process,
            _hide_secrets,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *args: _Named(str(args[0]) if args else "", stream),
        cache_logger_on_first_use=stream is None,
    )
    root = logging.getLogger()
    root.handlers = [_FromLogging()]
    # Libraries are told to be brief: their details are not what an operator looks for.
    root.setLevel(max(least, logging.WARNING) if least > logging.DEBUG else least)
    # It tells of each connection that it cannot make; homeserver.db tells it once.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)


def _add_name(logger: Any, _: str, event: EventDict) -> EventDict:  # noqa: ANN401
    event["logger"] = logger.name
    return event


def _spare_traces(_: object, __: str, event: EventDict) -> EventDict:
    """Say only the reason where it says it all, such as that the database is away."""
    given = event.get("exc_info")
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, tuple):
        error = error[1]
    if getattr(error, "says_it_all", False):
        del event["exc_info"]
        event.setdefault("reason", str(error))
    return event


def _hide_secrets(_: object, __: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if _SECRET_KEYS.fullmatch(key):
            event[key] = HIDDEN
        elif isinstance(value, str):
            most = MAX_TRACEBACK if key == "exception" else MAX_VALUE
            event[key] = hide(value if len(value) <= most else value[:most] + "…")
        elif not isinstance(value, int | float | bool | None):
            event[key] = _plain(value)
    return event


def _plain(value: object) -> object:
    """A value of any other kind as something that can be written."""
    if isinstance(value, Mapping):
        hidden: MutableMapping[str, Any] = dict(value)
        return _hide_secrets(None, "", hidden)
    text = str(value)
    return hide(text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…")


def hide(text: str) -> str:
    """The text without the secrets that can be recognised."""
    for pattern in _SECRETS_IN_TEXT:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def _as_json(_: object, __: str, event: EventDict) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _as_text(_: object, __: str, event: EventDict) -> str:
    traceback = event.pop("exception", None)
    time, level = event.pop("timestamp"), event.pop("level")
    name, what = event.pop("logger"), event.pop("event")
    process = event.pop("process", None)
    number = "" if process is None else f"[{process}] "
    rest = "".join(f" {key}={_quoted(value)}" for key, value in event.items())
    line = f"{time} {level:<7} {number}{name}: {_one_line(str(what))}{rest}"
    if traceback:
        # Lines of several processes may stand between each other.
        line += "".join(f"\n  | {number}{part}" for part in traceback.splitlines())
    return line


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _quoted(value: object) -> str:
    text = str(value)
    if not text.isprintable() or _NEEDS_QUOTES.search(text):
        return repr(text)
    return text
