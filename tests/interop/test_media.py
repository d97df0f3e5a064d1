"""Files and thumbnails from one server to the other, both ways."""

import pytest

from tests.interop.stage import Stage
from tests.support.api import eventually
from tests.support.media import (
    V3,
    downloads,
    fetch,
    noise,
    picture,
    thumbnails,
    uploads,
)

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [1, 100_000, 20 * MIB])
async def test_files(newest: Stage, size: int) -> None:
    alice, bob = await newest.people()
    data = noise(size)
    where = await uploads(alice, data, "image/png", "my cat 猫.png")
    for _ in range(2):  # the second one comes from the copy
        got = await downloads(bob, where)
        assert (got.status, got.body) == (200, data)
        assert got.headers["Content-Type"] == "image/png"
        assert got.disposition.startswith("inline")
        assert "%E7%8C%AB" in got.disposition
    assert (await downloads(bob, where[:-3] + "xxx")).status == 404


@pytest.mark.parametrize("kind", ["image/svg+xml", "text/html", "video/mp4"])
async def test_types(newest: Stage, kind: str) -> None:
    alice, bob = await newest.people()
    where = await uploads(alice, b"<b>bold</b>", kind)
    got = await downloads(bob, where)
    # "Adding a charset to `text/*` content types" is allowed.
    assert got.headers["Content-Type"].partition(";")[0] == kind
    assert got.body == b"<b>bold</b>"
    inline = kind == "video/mp4"
    assert got.disposition.startswith("inline" if inline else "attachment")


@pytest.mark.parametrize("method", ["crop", "scale"])
async def test_thumbnails(newest: Stage, method: str) -> None:
    alice, bob = await newest.people()
    where = await uploads(alice, picture((900, 600), "JPEG"), "image/jpeg")
    for who in (alice, bob):
        got = await thumbnails(who, where, width=96, height=96, method=method)
        assert got.status == 200
        # "The actual thumbnail may be larger than the size specified."
        width, height = got.image.size
        assert 96 <= width <= 320
        assert round(width / height, 1) == (1.0 if method == "crop" else 1.5)


async def test_an_upload_that_comes_later(newest: Stage) -> None:
    alice, bob = await newest.people()
    created = (await alice.post("/_matrix/media/v1/create"))["content_uri"]
    where = created.removeprefix("mxc://")
    early = await downloads(bob, where + "?timeout_ms=100")
    # Synapse says no more than that the other server did not give it.
    assert early.status in (502, 504)
    put = await fetch(alice, f"{V3}/upload/{where}", method="PUT", data=b"at last")
    assert put.status == 200

    async def is_there() -> bool:
        return (await downloads(bob, where)).body == b"at last"

    await eventually(is_there, "the file has come", seconds=60)
