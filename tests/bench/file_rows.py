"""Files: large and small ones, parts, thumbnails, memory, and nginx beside us."""

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from tests.bench import files
from tests.bench.field import Contender
from tests.bench.files import MIB
from tests.bench.rows import Figure, Row, Scale
from tests.support.child import cpu_seconds
from tests.support.homeserver import HOST, free_port

LARGE: Final = 50 * MIB
SMALL: Final = 100 * 1024
SMALL_FILES: Final = 1000
HUGE: Final = 2048 * MIB
# Other rows of the bench do with less when --seconds is smaller.
_USUAL_SECONDS: Final = Scale.seconds
_numbers = itertools.count()

# As Debian has it, but for one worker, as there is one of ours.
NGINX: Final = """
daemon off;
worker_processes 1;
pid {place}/pid;
error_log {place}/errors;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{ listen {host}:{port}; root {place}/files; }}
}}
"""


async def large_files(contender: Contender, scale: Scale) -> list[Figure]:
    """4 files of 50 MiB at once, up and down"""
    (who,) = await contender.people(f"large{next(_numbers)}", 1)
    data = [os.urandom(LARGE) for _ in range(4)]
    size = sum(map(len, data)) / MIB
    places: list[str] = []

    async def up(body: bytes) -> None:
        places.append(await files.upload(who, body))

    _, sent = await contender.cost(
        lambda: files.several([partial(up, body) for body in data], 4)
    )
    _, got = await contender.cost(
        lambda: files.several([partial(files.download, who, p) for p in places], 4)
    )
    return [
        Figure("up", size / sent.wall, "MiB/s", more_is_better=True),
        Figure("down", size / got.wall, "MiB/s", more_is_better=True),
        Figure("CPU up", sent.server_cpu / size * 1000, "ms/MiB"),
        Figure("CPU down", got.server_cpu / size * 1000, "ms/MiB"),
    ]


async def small_files(contender: Contender, scale: Scale) -> list[Figure]:
    """1,000 files of 100 KiB, up and down; parts of a large one; thumbnails"""
    (who,) = await contender.people(f"small{next(_numbers)}", 1)
    count = max(20, int(SMALL_FILES * min(1.0, scale.seconds / _USUAL_SECONDS)))
    data = os.urandom(SMALL + count)
    places: list[str] = []

    async def up(number: int) -> None:
        body = data[number : number + SMALL]
        places.append(await files.upload(who, body))

    _, sent = await contender.cost(
        lambda: files.several([partial(up, number) for number in range(count)], 8)
    )
    targets = [f"{files.V1}/download/{place}" for place in places]
    url, token = who.base_url, who.access_token
    _, got = await contender.cost(lambda: files.drained(url, token, targets, 8))
    large = await files.upload(who, os.urandom(40 * MIB))
    part = partial(files.download, who, large, "Range: bytes=9000000-9065535\r\n")
    # Who ignores ranges sends all of it.
    _, parts = await contender.cost(lambda: files.several([part] * 50, 8))
    photos = [files.photo((2000, 1500)) for _ in range(10)]

    async def show(photo: bytes) -> None:
        # Together: some servers make thumbnails of what nobody asks for.
        where = await files.upload(who, photo, "image/jpeg")
        await files.thumbnail(who, where)

    _, shown = await contender.cost(
        lambda: files.several([partial(show, photo) for photo in photos], 8)
    )
    return [
        Figure("up", count / sent.wall, "/s", more_is_better=True),
        Figure("CPU up", sent.server_cpu / count * 1000, "ms"),
        Figure("database up", sent.database_cpu / count * 1000, "ms"),
        Figure("down", count / got.wall, "/s", more_is_better=True),
        Figure("CPU down", got.server_cpu / count * 1000, "ms"),
        Figure("parts", 50 / parts.wall, "/s", more_is_better=True),
        Figure("photos", 10 / shown.wall, "/s", more_is_better=True, judged=False),
    ]


async def huge_file(contender: Contender, scale: Scale) -> list[Figure]:
    """Memory beyond the idle server's while 2 GiB go up; ours only"""
    if contender.kind != "hearth":
        return []
    size = int(HUGE * min(1.0, scale.seconds / _USUAL_SECONDS))
    server = await contender.another("huge")
    server.keys = {"media": '{max_upload_size = "3G"}'}  # type: ignore[attr-defined]
    async with server:
        who = await server.registers("huge")
        await files.upload(who, os.urandom(MIB))
        idle = most = sum(p.memory_info().rss for p in server.child.family())
        done = asyncio.Event()

        async def watch() -> None:
            nonlocal most
            while not done.is_set():
                now = sum(p.memory_info().rss for p in server.child.family())
                most = max(most, now)
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        piece = os.urandom(MIB)
        await files.upload_pieces(who, itertools.repeat(piece, size // MIB), size)
        done.set()
        await watching
    return [Figure("beyond idle", (most - idle) / MIB, "MiB")]


async def beside_nginx(contender: Contender, scale: Scale) -> list[Figure]:
    """Downloads beside nginx with the same files on this machine (ours only)"""
    program = shutil.which("nginx")
    if contender.kind != "hearth" or program is None:
        return []
    (who,) = await contender.people(f"nginx{next(_numbers)}", 1)
    count = max(20, int(SMALL_FILES * min(1.0, scale.seconds / _USUAL_SECONDS)))
    large = [os.urandom(LARGE) for _ in range(4)]
    body = os.urandom(SMALL + count)
    small = [body[number : number + SMALL] for number in range(count)]
    figures: list[Figure] = []
    place = contender.directory / f"nginx{next(_numbers)}"
    async with _nginx(program, place, [*large, *small]) as (address, family):
        for name, data, first, rounds in (
            ("large", large, 0, 5),
            ("small", small, 4, 1),
        ):
            places = [await files.upload(who, each) for each in data]
            ours = [f"{files.V1}/download/{each}" for each in places] * rounds
            theirs = [f"/{first + number}" for number in range(len(data))] * rounds
            size = sum(map(len, data)) * rounds / MIB
            figures += await _both(
                contender,
                name,
                size,
                (who.base_url, who.access_token, ours),
                (address, "", theirs),
                family,
            )
    shutil.rmtree(place)
    return figures


async def _both(
    contender: Contender,
    name: str,
    size: float,
    ours: tuple[str, str, list[str]],
    theirs: tuple[str, str, list[str]],
    family: list[psutil.Process],
) -> list[Figure]:
    """The same files from both, in turns; the better of each side's turns."""
    ours_s, theirs_s, ours_cpu, theirs_cpu = [], [], [], []
    for _ in range(3):
        before = cpu_seconds(family)
        _, used = await contender.cost(lambda: files.drained(*theirs, 4))
        theirs_s.append(used.wall)
        theirs_cpu.append(cpu_seconds(family) - before)
        _, used = await contender.cost(lambda: files.drained(*ours, 4))
        ours_s.append(used.wall)
        ours_cpu.append(used.server_cpu)
    share = min(theirs_s) / min(ours_s) * 100
    return [
        Figure(f"{name} from us", size / min(ours_s), "MiB/s", more_is_better=True),
        Figure(f"{name} from nginx", size / min(theirs_s), "MiB/s"),
        Figure(f"{name}: of nginx", share, "%", more_is_better=True),
        Figure(f"{name}: our CPU", min(ours_cpu) / size * 1000, "ms/MiB"),
        Figure(f"{name}: its CPU", min(theirs_cpu) / size * 1000, "ms/MiB"),
    ]


@asynccontextmanager
async def _nginx(
    program: str, place: Path, contents: Iterable[bytes]
) -> AsyncIterator[tuple[str, list[psutil.Process]]]:
    """nginx with these files, by their number; its address and its processes."""
    (place / "files").mkdir(parents=True)
    for folder in (place, place / "files"):
        folder.chmod(0o755)
    for number, content in enumerate(contents):
        (place / "files" / str(number)).write_bytes(content)
    port = free_port()
    config = place / "nginx.conf"
    config.write_text(NGINX.format(place=place, host=HOST, port=port))
    process = await asyncio.create_subprocess_exec(program, "-c", str(config))
    try:
        main = psutil.Process(process.pid)
        async with asyncio.timeout(10):
            while not await _is_open(port):
                await asyncio.sleep(0.02)
        yield f"http://{HOST}:{port}", [main, *main.children(recursive=True)]
    finally:
        process.terminate()
        await process.wait()


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


ROWS: Final[dict[str, Row]] = {
    "large_files": large_files,
    "small_files": small_files,
    "huge_file": huge_file,
    "beside_nginx": beside_nginx,
}
