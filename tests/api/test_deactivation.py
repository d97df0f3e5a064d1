"""Ending an account: what goes at once, what goes in the background, what is erased."""

import pytest

from homeserver.rooms import membership
from tests.support.api import RefusedError, eventually, path
from tests.support.client import PASSWORD, Client

PUBLIC = {"preset": "public_chat"}
WHERE = path("account", "deactivate")


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


async def deactivates(client: Client, **more: object) -> None:
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": client.user_id},
        "password": PASSWORD,
    }
    reply = await client.post(WHERE, {"auth": auth, **more})
    assert reply == {"id_server_unbind_result": "success"}


async def leaves_all(watcher: Client, who: Client, *rooms: str) -> None:
    for room in rooms:

        async def is_out(room: str = room) -> bool:
            return (await watcher.members(room))[who.user_id] == "leave"

        await eventually(is_out, f"{who.user_id} has left {room}")


async def test_it_asks_for_the_password(hearth, alice):
    status, body = await alice.answer("POST", WHERE, {})
    assert status == 401
    assert body["flows"] == [{"stages": ["m.login.password"]}]
    status, body = await hearth.nobody.answer("POST", WHERE, {})
    assert status == 401
    assert body["flows"] == [{"stages": ["m.login.password"]}]
    assert (await alice.whoami())["user_id"] == alice.user_id


async def test_all_sessions_end_and_the_name_stays_taken(hearth, alice):
    other = await hearth.logs_in(alice.user_id)
    token = await other.post(path("user", alice.user_id, "openid", "request_token"))
    await deactivates(alice)
    for client in (alice, other):
        assert (await refusal(client.get(path("account", "whoami"))))[0] == 401
    assert await refusal(hearth.logs_in(alice.user_id)) == (403, "M_USER_DEACTIVATED")
    localpart = alice.user_id[1:].partition(":")[0]
    assert (await refusal(hearth.registers(localpart)))[1] == "M_USER_IN_USE"
    assert (await refusal(hearth.nobody.get(path("profile", alice.user_id))))[0] == 404
    call = hearth.nobody.get(
        "/_matrix/federation/v1/openid/userinfo", access_token=token["access_token"]
    )
    assert (await refusal(call))[1] == "M_UNKNOWN_TOKEN"
    async with hearth.ctx.db.read() as tx:
        left = await tx.fetchrow(
            """
            SELECT (SELECT count(*) FROM devices WHERE user_id = $1) AS devices,
                   (SELECT count(*) FROM pushers WHERE user_id = $1) AS pushers,
                   (SELECT password_hash FROM users WHERE user_id = $1) AS hash
            """,
            alice.user_id,
        )
    assert tuple(left) == (0, 0, None)


async def test_the_password_is_enough(hearth, alice, bob):
    def auth(user_id: str, password: str) -> dict[str, object]:
        return {
            "auth": {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": user_id},
                "password": password,
            }
        }

    call = hearth.nobody.post(WHERE, auth(bob.user_id, "wrong"))
    assert (await refusal(call))[0] == 401
    call = alice.post(WHERE, auth(bob.user_id, PASSWORD))  # another's
    assert (await refusal(call))[0] == 401
    await hearth.nobody.post(WHERE, auth(bob.user_id, PASSWORD))
    assert (await refusal(bob.whoami()))[0] == 401
    assert (await alice.whoami())["user_id"] == alice.user_id


async def test_all_rooms_are_left_and_invites_refused(alice, bob, hearth):
    rooms = [await bob.creates_room(**PUBLIC) for _ in range(3)]
    for room in rooms:
        await alice.joins(room)
    invited = await bob.creates_room()
    await bob.invites(invited, alice)
    await deactivates(alice)
    await leaves_all(bob, alice, *rooms, invited)

    async def is_done() -> bool:
        async with hearth.ctx.db.read() as tx:
            left = await tx.fetchval(
                "SELECT count(*) FROM farewells WHERE user_id = $1", alice.user_id
            )
        return bool(left == 0)

    await eventually(is_done, "the farewell is over")


async def test_another_process_goes_on_where_one_stopped(
    alice, bob, hearth, monkeypatch, another_process
):
    room = await bob.creates_room(**PUBLIC)
    await alice.joins(room)
    plain = membership.leave

    async def dies(*args, **more):
        raise RuntimeError("the process is killed here")

    monkeypatch.setattr(membership, "leave", dies)
    await deactivates(alice)

    async def is_claimed() -> bool:
        async with hearth.ctx.db.read() as tx:
            tries = await tx.fetchval(
                "SELECT tries FROM farewells WHERE user_id = $1", alice.user_id
            )
        return bool(tries)

    await eventually(is_claimed, "somebody tries")
    monkeypatch.setattr(membership, "leave", plain)
    async with hearth.ctx.db.transaction() as tx:  # as when its claim runs out
        await tx.execute("UPDATE farewells SET claimed_until = NULL")
    await deactivates(await fresh(hearth))  # wakes everybody
    await leaves_all(bob, alice, room)


async def fresh(hearth) -> Client:
    user = await hearth.registers()
    return Client(user.http, user.base_url, user.access_token, user_id=user.user_id)


async def test_what_was_erased_is_for_those_only_who_were_there(alice, bob, carol):
    room = await bob.creates_room(**PUBLIC)
    await alice.joins(room)
    said = await alice.sends(room, "my secret")
    await bob.sends(room, "no secret")
    await deactivates(alice, erase=True)
    await leaves_all(bob, alice, room)
    await carol.joins(room)
    assert (await bob.reads_event(room, said))["content"]["body"] == "my secret"
    assert (await carol.reads_event(room, said))["content"] == {}
    for reply in (await carol.history(room), (await carol.context(room, said))):
        events = reply if isinstance(reply, list) else [reply["event"]]
        assert "my secret" not in str(events)
    assert "no secret" in str(await carol.history(room))
    assert "my secret" in str(await bob.history(room))
    # Who comes later sees who was there, as the room's state needs it.
    assert (await carol.members(room))[alice.user_id] == "leave"


async def test_without_erasure_newcomers_read_on(alice, bob, carol):
    room = await bob.creates_room(**PUBLIC)
    await alice.joins(room)
    said = await alice.sends(room, "for all")
    await deactivates(alice)
    await carol.joins(room)
    assert (await carol.reads_event(room, said))["content"]["body"] == "for all"


async def test_erasure_takes_what_users_keep_here(hearth, alice):
    await alice.put(
        path("user", alice.user_id, "account_data", "org.example"), {"a": 1}
    )
    await alice.sets_displayname("Alice")
    await deactivates(alice, erase=True)
    async with hearth.ctx.db.read() as tx:
        left = await tx.fetchval(
            """
            SELECT (SELECT count(*) FROM account_data WHERE user_id = $1)
                 + (SELECT count(*) FROM profiles WHERE user_id = $1)
            """,
            alice.user_id,
        )
    assert left == 0


@pytest.mark.parametrize("body", [{"erase": "yes"}, {"auth": 1}, {"id_server": 1}])
async def test_what_is_malformed_is_refused(alice, body):
    assert (await refusal(alice.post(WHERE, body)))[0] in {400, 401}
    assert (await alice.whoami())["user_id"] == alice.user_id
