"""Users who end their accounts, as other servers see it."""

from tests.support.api import eventually, path
from tests.support.client import PASSWORD, Client

PUBLIC = {"preset": "public_chat"}


async def deactivates(client: Client) -> None:
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": client.user_id},
        "password": PASSWORD,
    }
    await client.post(path("account", "deactivate"), {"auth": auth, "erase": True})


async def test_other_servers_see_them_leave_and_newcomers_not_what_they_said(
    a, b, c, alice, bob
):
    dave = await a.person("dave")
    carol = await c.person("carol")
    room = await dave.creates_room(**PUBLIC)
    await alice.joins(room)
    await bob.joins(room, via=dave)
    await alice.sends(room, "my secret")
    await bob.sees(room, "my secret")
    await deactivates(alice)
    await bob.sees_member(room, alice, "leave")
    # Who was there has it still, and so has their server.
    assert "my secret" in str(await bob.history(room))
    await bob.leaves(room)
    await dave.sees_member(room, bob, "leave")
    await dave.sends(room, "no secret")
    await carol.joins(room, via=dave)

    async def is_read() -> bool:
        return "no secret" in str(await carol.history(room))

    await eventually(is_read, "carol reads what was said before she came")
    assert "my secret" not in str(await carol.history(room))


async def test_a_room_elsewhere_is_left_as_well(a, b, alice, bob):
    room = await bob.creates_room(**PUBLIC)
    invited = await bob.creates_room()
    await alice.joins(room, via=bob)
    await bob.invites(invited, alice)
    await alice.is_shown(invited, "invite")
    await deactivates(alice)
    await bob.sees_member(room, alice, "leave")
    await bob.sees_member(invited, alice, "leave")
