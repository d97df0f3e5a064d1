"""OpenID tokens: who somebody is, told to other services."""

import pytest

from homeserver.accounts import tasks
from tests.support.api import RefusedError, path

USERINFO = "/_matrix/federation/v1/openid/userinfo"


async def token_of(client) -> dict:
    return await client.post(path("user", client.user_id, "openid", "request_token"))


async def test_a_token_tells_whose_it_is(hearth, alice):
    reply = await token_of(alice)
    assert reply["token_type"] == "Bearer"
    assert reply["matrix_server_name"] == hearth.ctx.server_name
    assert reply["expires_in"] == 3600
    token = reply["access_token"]
    assert await hearth.nobody.get(USERINFO, access_token=token) == {
        "sub": alice.user_id
    }
    # It is good for nothing else, and nothing else is good for it.
    with pytest.raises(RefusedError) as error:
        await hearth.client(token).get(path("account", "whoami"))
    assert error.value.errcode == "M_UNKNOWN_TOKEN"
    with pytest.raises(RefusedError) as error:
        await hearth.nobody.get(USERINFO, access_token=alice.access_token)
    assert (error.value.status, error.value.errcode) == (401, "M_UNKNOWN_TOKEN")


async def test_a_token_runs_out_and_is_not_stored_itself(hearth, alice):
    token = (await token_of(alice))["access_token"]
    async with hearth.ctx.db.transaction() as tx:
        rows = await tx.fetch(
            "UPDATE openid_tokens SET expires_at = now() - interval '1 s'"
            " WHERE user_id = $1 RETURNING token_hash",
            alice.user_id,
        )
    assert [row[0] for row in rows] != [token.encode()]
    with pytest.raises(RefusedError) as error:
        await hearth.nobody.get(USERINFO, access_token=token)
    assert error.value.errcode == "M_UNKNOWN_TOKEN"
    await tasks.forget_expired(hearth.ctx)
    async with hearth.ctx.db.read() as tx:
        left = await tx.fetchval(
            "SELECT count(*) FROM openid_tokens WHERE user_id = $1", alice.user_id
        )
    assert left == 0


async def test_nobody_gets_a_token_of_others(alice, bob):
    with pytest.raises(RefusedError) as error:
        await alice.post(path("user", bob.user_id, "openid", "request_token"))
    assert error.value.errcode == "M_FORBIDDEN"


async def test_services_may_ask_where_there_is_no_federation(another, person):
    server = await another(federation={"enabled": False})
    alice = await person(server)
    token = (await token_of(alice))["access_token"]
    reply = await server.nobody.get(USERINFO, access_token=token)
    assert reply["sub"] == alice.user_id
    with pytest.raises(RefusedError) as error:
        await server.nobody.get("/_matrix/federation/v1/version")
    assert error.value.status == 404


@pytest.mark.parametrize("token", ["", "nonsense", "hto_", "hto_\0", "x" * 3000])
async def test_what_is_no_token_is_refused(hearth, token):
    with pytest.raises(RefusedError) as error:
        await hearth.nobody.get(USERINFO, access_token=token)
    assert error.value.errcode in {"M_UNKNOWN_TOKEN", "M_MISSING_PARAM"}
