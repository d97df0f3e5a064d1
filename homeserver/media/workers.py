"""A few processes that make thumbnails, started when needed and ended when idle.

A job has a time limit; a process that exceeds it, or dies, is replaced, and only its
job fails. How many jobs wait is bounded too.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from homeserver import errors

JOB_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 30.0
# A process is replaced after so many jobs: what libraries leak stays bounded.
MOST_JOBS: Final = 500
MOST_WAITING: Final = 200
# The largest thumbnail, as encoded.
MOST_BYTES: Final = 16 * 2**20

log = structlog.get_logger(__name__)


class NoThumbnail(Exception):  # noqa: N818 - reads as a sentence at the raise
    """There can be no thumbnail of this file."""


class TooManyPixels(NoThumbnail):
    """The image is larger than we take."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to make of which file."""

    path: Path
    width: int
    height: int
    method: str
    animated: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A thumbnail; `data` is None when the original can be shown as it is."""

    content_type: str
    data: bytes | None


class _Answer(msgspec.Struct, frozen=True):
    type: str = ""
    size: int = 0
    original: bool = False
    error: str = ""


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.jobs = 0
        self.idle: asyncio.TimerHandle | None = None

    async def ask(self, job: Job) -> Made:
        """Have it do a job. Raises: NoThumbnail; OSError, EOFError, when it died."""
        to, back = self.process.stdin, self.process.stdout
        if to is None or back is None:
            raise EOFError("it has no pipes")
        self.jobs += 1
        line: dict[str, Any] = {
            "path": str(job.path),
            "width": job.width,
            "height": job.height,
            "method": job.method,
            "animated": job.animated,
        }
        to.write(msgspec.json.encode(line) + b"\n")
        await to.drain()
        answer = msgspec.json.decode(await back.readline(), type=_Answer)
        if answer.error == "too large":
            raise TooManyPixels
        if answer.error:
            raise NoThumbnail(answer.error)
        if answer.original:
            return Made(answer.type, None)
        if answer.size > MOST_BYTES:
            raise EOFError("the thumbnail is too large")
        return Made(answer.type, await back.readexactly(answer.size))

    async def end(self) -> None:
        """Make sure that it is gone."""
        if self.idle is not None:
            self.idle.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Workers:
    """At most `most` processes, which take images of up to `max_pixels`."""

    def __init__(self, most: int, max_pixels: int) -> None:
        self._slots = asyncio.Semaphore(most)
        self._max_pixels = max_pixels
        self._waiting = 0
        self._free: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._endings: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End all processes."""
        for worker in list(self._all):
            await self._end(worker)
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def make(self, job: Job) -> Made:
        """Have a thumbnail made. Raises: NoThumbnail; 503, when too many wait."""
        if self._waiting >= MOST_WAITING:
            raise errors.overloaded()
        self._waiting += 1
        try:
            async with self._slots, self._borrowed() as worker:
                async with asyncio.timeout(JOB_SECONDS):
                    return await worker.ask(job)
        except (OSError, EOFError, TimeoutError, msgspec.DecodeError) as error:
            log.warning("no thumbnail", file=job.path.name, reason=repr(error))
            raise NoThumbnail("the image is too hard to read") from None
        finally:
            self._waiting -= 1

    @contextlib.asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[_Worker]:
        """A process for one job; one that fails in any but the usual way is ended."""
        worker = self._free.pop() if self._free else await self._start()
        if worker.idle is not None:
            worker.idle.cancel()
            worker.idle = None
        try:
            yield worker
        except NoThumbnail:
            await self._give_back(worker)
            raise
        except BaseException:
            await asyncio.shield(self._end(worker))
            raise
        await self._give_back(worker)

    async def _start(self) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "homeserver.media.thumbnailer",
            str(self._max_pixels),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Nothing of ours, such as passwords in the environment, is its business.
            env={
                name: value
                for name, value in os.environ.items()
                if name in ("PATH", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
            },
            start_new_session=True,
        )
        worker = _Worker(process)
        self._all.add(worker)
        return worker

    async def _give_back(self, worker: _Worker) -> None:
        if worker.jobs >= MOST_JOBS or worker.process.returncode is not None:
            await self._end(worker)
            return
        self._free.append(worker)
        loop = asyncio.get_running_loop()
        worker.idle = loop.call_later(IDLE_SECONDS, self._end_idle, worker)

    def _end_idle(self, worker: _Worker) -> None:
        if worker in self._free:
            self._free.remove(worker)
            ending = asyncio.create_task(self._end(worker))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _end(self, worker: _Worker) -> None:
        self._all.discard(worker)
        if worker in self._free:
            self._free.remove(worker)
        await worker.end()
