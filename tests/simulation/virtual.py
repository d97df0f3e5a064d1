"""Virtual time and a fixed course of events, for a process that does nothing else.

Time stands still while there is anything to do, the database's work included, and jumps
to the next timer when there is not. What the database answers is handed out one by one,
in the order of the questions, so that nothing depends on how fast it was. `install`
comes before anything else is imported: some modules take `time.time` as a default.

A statement that waits for another one's lock is the one thing that real time decides:
after `LOCK_SECONDS` the rest goes on without it.
"""

import asyncio
import contextvars
import functools
import heapq
import itertools
import random
import secrets
import selectors
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from asyncpg.pool import PoolConnectionProxy

EPOCH: Final = 1_700_000_000.0
LOCK_SECONDS: Final = 0.05
STUCK_SECONDS: Final = 20.0

# Who is told of each question to the database before and after it: (is_after) -> None.
on_question: contextvars.ContextVar[Callable[[bool], None] | None] = (
    contextvars.ContextVar("on_question", default=None)
)


class Tasks(set["asyncio.Task[Any]"]):
    """The tasks of one run of a server, so that all can be ended at once."""

    is_over = False

    def end(self) -> None:
        """Cancel them all, and whatever timers still start."""
        self.is_over = True
        for task in list(self):
            task.cancel()


tasks_of: contextvars.ContextVar[Tasks | None] = contextvars.ContextVar(
    "tasks_of", default=None
)


class Course:
    """The virtual clock, the dice, and what the database has been asked."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.dice = random.Random(0)
        self.numbers = itertools.count()
        self.asked: set[int] = set()
        self.blocked: set[int] = set()
        self.patient: set[int] = set()  # of those asked: what waits for no lock
        self.answered: list[tuple[int, asyncio.Future[None]]] = []

    def begin(self, seed: int) -> None:
        """Start anew, the same for every run of a seed."""
        self.elapsed = 0.0
        self.dice.seed(seed)
        random.seed(seed)
        self.asked.clear()
        self.blocked.clear()
        self.patient.clear()
        self.answered.clear()


course: Final = Course()


def install() -> None:
    """Replace the process's clocks and its randomness."""
    time.time = lambda: EPOCH + course.elapsed
    time.time_ns = lambda: int((EPOCH + course.elapsed) * 1e9)
    time.monotonic = lambda: course.elapsed
    secrets.token_hex = lambda n=16: course.dice.randbytes(n).hex()
    secrets.token_urlsafe = lambda n=16: secrets.token_hex(n)
    secrets.token_bytes = lambda n=16: course.dice.randbytes(n)


class _Selector(selectors.DefaultSelector):
    loop: "Loop"

    def select(self, timeout: float | None = None) -> Any:
        if self.loop.has_work:
            return super().select(0)
        waiting = course.asked - course.blocked
        if waiting:
            seconds = STUCK_SECONDS if course.patient else LOCK_SECONDS
            events = super().select(seconds)
            if events:
                return events
            course.blocked |= waiting
        if self._answer_one():
            return []
        if course.asked:
            # All that is left waits for a lock, whose holder waits for time to pass.
            events = super().select(LOCK_SECONDS if timeout is not None else None)
            if events:
                return events
        if timeout is None:
            events = super().select(STUCK_SECONDS)
            if not events:
                raise RuntimeError("nothing is left that could happen")
            return events
        course.elapsed += timeout
        return super().select(0)

    def _answer_one(self) -> bool:
        while course.answered:
            _, gate = heapq.heappop(course.answered)
            if not gate.done():
                gate.set_result(None)
                return True
        return False


class Loop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; threads' work is done on the spot."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.set_task_factory(_make_task)

    @property
    def has_work(self) -> bool:
        return bool(self._ready)  # type: ignore[attr-defined]

    def run_in_executor(self, _executor: Any, func: Any, *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future


def _make_task(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coro, loop=loop, **options)
    context = options.get("context")
    tasks = tasks_of.get() if context is None else context.get(tasks_of)
    if tasks is not None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if tasks.is_over:
            task.cancel()
    return task


def in_order(
    function: Callable[..., Awaitable[Any]], *, waits_for_locks: bool = True
) -> Callable[..., Awaitable[Any]]:
    """A function that asks the database: its answer comes in its turn.

    One that waits for nobody's lock only takes long, and no time passes meanwhile.
    """

    @functools.wraps(function)
    async def asked(*args: Any, **options: Any) -> Any:
        tell = on_question.get()
        if tell is not None:
            tell(False)
        number = next(course.numbers)
        course.asked.add(number)
        if not waits_for_locks:
            course.patient.add(number)
        result, problem = None, None
        try:
            result = await function(*args, **options)
        except Exception as error:  # noqa: BLE001 - raised again in its turn
            problem = error
        finally:
            course.asked.discard(number)
            course.patient.discard(number)
            course.blocked.discard(number)
        gate = asyncio.get_running_loop().create_future()
        heapq.heappush(course.answered, (number, gate))
        await gate
        if tell is not None:
            tell(True)
        if problem is not None:
            raise problem
        return result

    return asked


def order_the_database() -> None:
    """Let everything that asks the database be `in_order`, in virtual time."""
    for name in ("execute", "fetch", "fetchrow", "fetchval", "copy_records_to_table"):
        method = in_order(getattr(PoolConnectionProxy, name))
        if not name.startswith("copy"):
            method = _at_virtual_time(method)
        setattr(PoolConnectionProxy, name, method)


def _at_virtual_time(
    method: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[Any]]:
    """The method of a connection, for statements that ask for the time of day."""

    @functools.wraps(method)
    async def asked(self: Any, statement: str, *args: Any, **options: Any) -> Any:
        if "clock_timestamp()" in statement or "now()" in statement:
            now = f"to_timestamp({EPOCH + course.elapsed!r})"
            statement = statement.replace("clock_timestamp()", now)
            statement = statement.replace("now()", now)
        return await method(self, statement, *args, **options)

    return asked
