"""Answers of servers that are no homeservers."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from homeserver.outgoing import AnswerTooLong, read_answer


async def in_pieces(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for piece in (b'{"valid":', b" true", b"}"):
        await answer.write(piece)
    return answer


async def read(most: int) -> bytes:
    app = web.Application()
    app.router.add_get("/", in_pieces)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as session,
        session.get(server.make_url("/")) as response,
    ):
        return await read_answer(response, most)


async def test_an_answer_in_pieces_is_read_to_its_end():
    assert await read(100) == b'{"valid": true}'


async def test_a_longer_answer_is_refused():
    with pytest.raises(AnswerTooLong):
        await read(10)
