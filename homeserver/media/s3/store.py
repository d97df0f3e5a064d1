"""Files as objects of a bucket, under keys that say nothing.

What arrives is held until a part is full, and that part is on its way while the next
one fills. How much all drafts of a process hold is bounded; who comes then waits, and
so does the client.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final

import aiohttp
import structlog

from homeserver.http.files import in_thread
from homeserver.media.places import S3, Missing, Place, Unavailable
from homeserver.media.s3 import answers
from homeserver.media.s3.answers import Begun
from homeserver.media.s3.bucket import Ask, Bucket, Said

# All parts but the last have this size: 10,000 of them are 80 GiB.
PART: Final = 8 * 2**20
HELD_BYTES: Final = 192 * 2**20
WAIT_SECONDS: Final = 60.0
ABANDONED_S: Final = 3600.0
_READ: Final = 2**20
_RESUMES: Final = 3
_PAGE: Final = 1000

log = structlog.get_logger(__name__)


class Budget:
    """Bytes that may be held at the same time, given out in the order of asking."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> int:
        """Wait until so many are free; how many were taken. Raises: Unavailable."""
        size = min(size, self._most)
        if not self._waiting and size <= self._free:
            self._free -= size
            return size
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            else:
                self._waiting.remove((size, turn))
                self._wake()
            if isinstance(error, TimeoutError):
                raise Unavailable("too many files are on their way") from None
            raise
        return size

    def give_back(self, size: int) -> None:
        """Let others have them."""
        self._free += size
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            self._free -= size
            if turn.cancelled():
                self._free += size
            else:
                turn.set_result(None)


class S3Draft:
    """A file on its way into the bucket."""

    def __init__(self, bucket: Bucket, budget: Budget, reserved: int) -> None:
        name = secrets.token_hex(16)
        self.key = f"{name[:2]}/{name[2:]}"
        self.size = 0
        self._bucket = bucket
        self._budget = budget
        self._reserved = reserved
        self._hash = hashlib.sha256()
        self._held: list[bytes] = []
        self._held_size = 0
        self._upload_id: str | None = None
        self._etags: list[str] = []
        self._sending: asyncio.Task[str] | None = None
        self._is_kept = False

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what has been added so far."""
        return self._hash.digest()

    def add(self, pieces: Sequence[bytes]) -> "asyncio.Future[None]":
        """Append; a full part is sent meanwhile."""
        return asyncio.ensure_future(self._add(pieces))

    async def _add(self, pieces: Sequence[bytes]) -> None:
        await in_thread(_digest, self._hash, pieces)
        for piece in pieces:
            self._held.append(piece)
            self._held_size += len(piece)
            self.size += len(piece)
        while self._held_size > PART:
            await self._send(self._cut())

    def _cut(self) -> list[bytes]:
        """Take exactly one part off what is held."""
        part: list[bytes] = []
        room = PART
        for number, piece in enumerate(self._held):
            if len(piece) > room:
                part.append(piece[:room])
                self._held[: number + 1] = [piece[room:]]
                break
            part.append(piece)
            room -= len(piece)
        self._held_size -= PART
        return part

    async def _send(self, part: list[bytes]) -> None:
        await self._sent()
        if self._upload_id is None:
            said = await self._bucket.ask(Ask("POST", self.key, [("uploads", "")]))
            upload_id = answers.text_of(answers.parsed(said.body), "UploadId")
            if not upload_id:
                raise Unavailable("the store names no upload")
            self._upload_id = upload_id
        self._sending = asyncio.create_task(
            self._put(self._upload_id, len(self._etags) + 1, part)
        )

    async def _sent(self) -> None:
        """Wait until the part under way has arrived."""
        if self._sending is not None:
            etag = await self._sending
            self._sending = None
            self._etags.append(etag)

    async def _put(self, upload_id: str, number: int, part: list[bytes]) -> str:
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        said = await self._bucket.ask(Ask("PUT", self.key, query, part))
        return said.headers.get("ETag", "")

    async def keep(self) -> Place:
        """Have it stored, whole. Raises: Unavailable."""
        if self._upload_id is None:
            await self._bucket.ask(Ask("PUT", self.key, (), self._held))
        else:
            await self._send(self._held)
            await self._sent()
            await self._complete(self._upload_id)
        self._is_kept = True
        self._give_back()
        return Place(S3, self.key)

    async def _complete(self, upload_id: str) -> None:
        body = [answers.completion(self._etags)]
        ask = Ask("POST", self.key, [("uploadId", upload_id)], body)
        try:
            said = await self._bucket.ask(ask)
        except Missing:
            # Asked twice: the first answer was lost.
            said = await self._bucket.ask(Ask("HEAD", self.key))
            if said.headers.get("Content-Length") == str(self.size):
                return
            raise Unavailable("the store has forgotten the upload") from None
        if answers.name_of(answers.parsed(said.body)) == "Error":
            # "a 200 OK response can contain either a success or an error".
            raise Unavailable(said.body[:500].decode("utf-8", "replace"))

    async def discard(self) -> None:
        """Have the store forget it, unless it has been kept."""
        self._give_back()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
            self._sending = None
        if self._is_kept:
            return
        # A single part may have arrived although its answer was lost.
        forget = [Ask("DELETE", self.key, good=(200, 204))] if self.size else []
        if self._upload_id is not None:
            query = [("uploadId", self._upload_id)]
            forget = [Ask("DELETE", self.key, query, good=(200, 204))]
        for ask in forget:
            try:
                await self._bucket.ask(ask)
            except Missing:
                pass
            except Unavailable as error:
                log.warning("a draft is left to the sweep", reason=str(error))

    def _give_back(self) -> None:
        self._held, self._held_size = [], 0
        self._budget.give_back(self._reserved)
        self._reserved = 0


class S3Part:
    """A part of an object that is being read; what breaks off is asked for again."""

    file: BinaryIO | None = None

    def __init__(
        self, bucket: Bucket, key: str, span: tuple[int, int],
        response: aiohttp.ClientResponse | None,
    ) -> None:  # fmt: skip
        self.offset, self.size = span
        self._bucket = bucket
        self._key = key
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """What it holds, piece by piece. Raises: EOFError, Unavailable."""
        done = resumed = 0
        while done < self.size:
            piece = await self._piece()
            if piece:
                done += len(piece)
                yield piece
                continue
            resumed += 1
            if resumed > _RESUMES:
                raise Unavailable("the store breaks off again and again")
            self.close()
            self._response = await _get(
                self._bucket, self._key, self.offset + done, self.size - done
            )
        if done > self.size:
            raise EOFError("the store sends more than was asked for")

    async def _piece(self) -> bytes:
        if self._response is None:
            return b""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            return await self._response.content.readany()
        return b""

    def close(self) -> None:
        """End reading; a connection whose body was read to its end is used again."""
        if self._response is None:
            return
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
        self._response = None


async def _get(
    bucket: Bucket, key: str, start: int, size: int
) -> aiohttp.ClientResponse:
    good = (206,) if start else (200, 206)
    headers = {"range": f"bytes={start}-{start + size - 1}"}
    return await bucket.open(Ask("GET", key, (), (), headers, good))


class S3Store:
    """The files in one bucket."""

    name = S3
    shelves_at_once = 1

    def __init__(
        self, bucket: Bucket, link_seconds: int, abandoned_s: float = ABANDONED_S
    ) -> None:
        self.bucket = bucket
        self.abandoned_s = abandoned_s
        # How long a link is good that leads to the bucket itself; 0: none are given.
        self.link_seconds = link_seconds
        self._budget = Budget(HELD_BYTES)

    async def begin(self, size: int | None) -> S3Draft:
        """Begin to write a file. Raises: Unavailable, when too many are under way."""
        wanted = 2 * PART if size is None else min(size, 2 * PART)
        return S3Draft(self.bucket, self._budget, await self._budget.take(wanted))

    async def put(self, path: Path, sha256: bytes, size: int) -> Place:
        """Take a file from the disk. Raises: OSError, Unavailable."""
        draft = await self.begin(size)
        try:
            file = await in_thread(path.open, "rb", 0)
            try:
                while piece := await in_thread(file.read, _READ):
                    await draft.add([piece])
            finally:
                file.close()
            if draft.sha256 != sha256:
                raise OSError("a file has changed while it was read")
            return await draft.keep()
        finally:
            await asyncio.shield(draft.discard())

    async def open(self, key: str, start: int, size: int) -> S3Part:
        """Open a part of a file. Raises: Missing, Unavailable."""
        response = await _get(self.bucket, key, start, size) if size else None
        return S3Part(self.bucket, key, (start, size), response)

    async def read(self, key: str, start: int, size: int) -> bytes:
        """A small part of a file. Raises: Missing, Unavailable."""
        part = await self.open(key, start, size)
        try:
            return b"".join([piece async for piece in part.chunks()])
        finally:
            part.close()

    async def delete(self, key: str) -> None:
        """Delete a file, if it is there. Raises: Unavailable."""
        with contextlib.suppress(Missing):
            await self.bucket.ask(Ask("DELETE", key, good=(200, 204)))

    def link(self, key: str, kind: str, disposition: str) -> str:
        """A link to the object, which answers with this type and name."""
        query = [
            ("response-content-type", kind),
            ("response-content-disposition", disposition),
        ]
        return self.bucket.link(key, query, self.link_seconds)

    async def shelves(self) -> list[str]:
        """What keys begin with."""
        return list("0123456789abcdef")

    async def on_shelf(self, shelf: str) -> list[str]:
        """The keys of objects that are not just new. Raises: Unavailable."""
        found: list[str] = []
        more: str | None = ""
        while more is not None:
            query = [("list-type", "2"), ("prefix", f"{self.bucket.prefix}{shelf}")]
            if more:
                query.append(("continuation-token", more))
            said = await self.bucket.ask(Ask("GET", None, query))
            page = answers.page_of(said.body)
            before = said.now - timedelta(seconds=self.abandoned_s)
            found += [self._inside(each.key) for each in page.listed
                      if each.at <= before]  # fmt: skip
            more = page.more
        return found

    def _inside(self, key: str) -> str:
        return key.removeprefix(self.bucket.prefix)

    async def give_up_drafts(self) -> int:
        """End uploads that did not go on for long. Raises: Unavailable."""
        given_up = 0
        async for said, begun in self._begun():
            if not await self._goes_on(said, begun):
                query = [("uploadId", begun.upload_id)]
                key = self._inside(begun.key)
                with contextlib.suppress(Missing):
                    await self.bucket.ask(Ask("DELETE", key, query, good=(200, 204)))
                    given_up += 1
        return given_up

    async def _begun(self) -> AsyncIterator[tuple[Said, Begun]]:
        more: tuple[str, str] | None = ("", "")
        while more is not None:
            query = [("uploads", ""), ("prefix", self.bucket.prefix)]
            if more != ("", ""):
                query += [("key-marker", more[0]), ("upload-id-marker", more[1])]
            said = await self.bucket.ask(Ask("GET", None, query))
            page = answers.begun_page_of(said.body)
            for begun in page.begun:
                yield said, begun
            more = page.more

    async def _goes_on(self, said: Said, begun: Begun) -> bool:
        """Whether a part of it came lately, or it has just begun."""
        before = said.now - timedelta(seconds=self.abandoned_s)
        if begun.at > before:
            return True
        # From the last parts on: an upload of ours has at most 10,000 of them.
        last = None
        key = self._inside(begun.key)
        for marker in range(0, 10_000, _PAGE):
            query = [("uploadId", begun.upload_id), ("part-number-marker", str(marker))]
            try:
                listed = await self.bucket.ask(Ask("GET", key, query))
            except Missing:
                return True  # it has ended meanwhile
            found = answers.last_part_of(listed.body)
            if found is None:
                break
            last = found
        return last is not None and last > before

    async def stop(self) -> None:
        """Close all connections."""
        await self.bucket.stop()


def _digest(digest: "hashlib._Hash", pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        digest.update(piece)
