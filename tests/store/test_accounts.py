"""Queries on accounts that repeat, replace or must not collide."""

import hashlib
import time
from datetime import UTC, datetime, timedelta

import pytest

from federation.ids import DeviceId, UserId
from homeserver.accounts.store import (
    account_data,
    devices,
    login_tokens,
    profiles,
    tokens,
    uia_sessions,
    users,
)
from homeserver.accounts.store.account_data import OF_NO_ROOM, AccountData, Edit
from homeserver.accounts.store.devices import Removal, Seen
from homeserver.accounts.store.tokens import NewSession
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.db.pool import Database
from homeserver.live.changes import Positioned

ALICE = UserId("@alice:hearth.test")
BOB = UserId("@bob:hearth.test")
HOUR = timedelta(hours=1)


def hash_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def session(
    device: str, token: str, refresh: str | None = None, user: UserId = ALICE
) -> Positioned[NewSession]:
    refresh_hash = hash_of(refresh) if refresh else None
    new = NewSession(
        user, DeviceId(device), f"{device}\0", hash_of(token), None, refresh_hash
    )
    return Positioned(1, new)


@pytest.fixture
async def people(database: Database) -> Database:
    async with database.transaction() as tx:
        for user_id in (ALICE, BOB):
            assert await users.create_user(tx, user_id, None)
    return database


async def known(database: Database) -> set[str]:
    """Which of a few tokens are good."""
    async with database.read() as tx:
        return {
            name
            for name in ("a", "b", "c", "d")
            if await tokens.known_token(tx, hash_of(name)) is not None
        }


async def test_a_name_is_taken_once(people: Database) -> None:
    async with people.transaction() as tx:
        assert not await users.create_user(tx, ALICE, "hash", is_admin=True)
        account = await users.account(tx, ALICE)
        assert account == users.Account(ALICE, None, False, False)
        assert await users.is_taken(tx, ALICE)
        assert await users.account(tx, "@nobody:hearth.test") is None
        assert not await users.lock(tx, UserId("@nobody:hearth.test"))


async def test_opening_sessions_twice_is_the_same_as_once(people: Database) -> None:
    batch = [session("ONE", "a", "ra"), session("TWO", "b"), session("ONE", "c")]
    for _ in range(2):
        async with people.transaction() as tx:
            await tokens.open_sessions(tx, batch)
    # Of one device, the last session has ended the others.
    assert await known(people) == {"b", "c"}
    async with people.read() as tx:
        found = await devices.devices(tx, ALICE)
        assert [(each.device_id, each.display_name) for each in found] == [
            ("ONE", "ONE\0"),
            ("TWO", "TWO\0"),
        ]
        assert await tx.fetchval("SELECT count(*) FROM refresh_tokens") == 0


async def test_a_device_that_logs_in_again_keeps_its_name(people: Database) -> None:
    async with people.transaction() as tx:
        await tokens.open_sessions(tx, [session("ONE", "a", "ra")])
        rename = devices.Rename(ALICE, DeviceId("ONE"), "renamed")
        await devices.rename(tx, [Positioned(1, rename)])
        await tokens.open_sessions(tx, [session("ONE", "b", "rb")])
        device = await devices.device(tx, ALICE, DeviceId("ONE"))
        assert device is not None
        assert device.display_name == "renamed"
        assert await tokens.take_refresh_token(tx, hash_of("ra")) is None
        assert await tokens.take_refresh_token(tx, hash_of("rb")) is not None
    assert await known(people) == {"b"}


async def test_removing_devices_takes_their_tokens_along(people: Database) -> None:
    async with people.transaction() as tx:
        await tokens.open_sessions(
            tx,
            [
                session("ONE", "a", "ra"),
                session("TWO", "b"),
                session("THREE", "c"),
                session("ONE", "d", user=BOB),
            ],
        )
        one = Removal(ALICE, (DeviceId("ONE"), DeviceId("none")))
        await devices.remove(tx, [Positioned(1, one), Positioned(2, Removal(BOB, ()))])
    assert await known(people) == {"b", "c", "d"}
    async with people.transaction() as tx:
        assert await tokens.take_refresh_token(tx, hash_of("ra")) is None
        await devices.remove(
            tx, [Positioned(1, Removal(ALICE, None, DeviceId("THREE")))]
        )
    assert await known(people) == {"c", "d"}
    async with people.transaction() as tx:
        await devices.remove(tx, [Positioned(1, Removal(ALICE, None))])
    assert await known(people) == {"d"}


async def test_a_token_of_a_deactivated_user_says_so(people: Database) -> None:
    async with people.transaction() as tx:
        await tokens.open_sessions(tx, [session("ONE", "a")])
        await tx.execute("UPDATE users SET deactivated = true, admin = true")
        found = await tokens.known_token(tx, hash_of("a"))
        assert found is not None
        assert (found.is_deactivated, found.is_admin) == (True, True)


async def test_only_later_sights_of_a_device_are_noted(people: Database) -> None:
    async with people.transaction() as tx:
        await tokens.open_sessions(tx, [session("ONE", "a")])
        # The log-in itself is a sight: these come after it.
        later = int(time.time() * 1000) + 60_000
        sights = [(later + 2000, "192.0.2.2"), (later + 1000, "192.0.2.1")]
        for at_ms, ip in sights:
            one = Seen(ALICE, DeviceId("ONE"), at_ms, ip)
            gone = Seen(ALICE, DeviceId("GONE"), at_ms, ip)
            await devices.note_seen(tx, [one, gone])
        device = await devices.device(tx, ALICE, DeviceId("ONE"))
        assert device is not None
        assert (device.last_seen_ms, device.last_seen_ip) == sights[0]


async def test_of_one_type_the_last_account_data_wins(people: Database) -> None:
    async with people.transaction() as tx:
        batch = [
            Positioned(n, AccountData(ALICE, OF_NO_ROOM, "type\0", {"n": n}))
            for n in (7, 8)
        ]
        batch.append(Positioned(9, AccountData(ALICE, 5, "type\0", {"n": 9})))
        await account_data.put(tx, batch)
        assert await account_data.content(tx, ALICE, OF_NO_ROOM, "type\0") == {"n": 8}
        assert await account_data.content(tx, ALICE, 5, "type\0") == {"n": 9}
        assert await account_data.content(tx, ALICE, 5, "type") is None
        position = await tx.fetchval(
            "SELECT position FROM account_data WHERE room_nid = 0"
        )
        assert position == 8


async def test_edits_build_on_each_other(people: Database) -> None:
    edits = [
        Positioned(n, Edit(ALICE, 5, "x", lambda old, n=n: {**old, str(n): n}))
        for n in (1, 2, 3)
    ]
    async with people.transaction() as tx:
        await account_data.edit(tx, edits)
        found = await account_data.content(tx, ALICE, 5, "x")
    assert found == {"1": 1, "2": 2, "3": 3}


async def test_a_log_in_token_is_good_once_and_for_a_time(people: Database) -> None:
    async with people.transaction() as tx:
        await login_tokens.add(tx, hash_of("a"), ALICE, HOUR)
        await login_tokens.add(tx, hash_of("b"), ALICE, -HOUR)
        taken = await login_tokens.take(tx, hash_of("a"))
        assert taken is not None
        assert taken.user_id == ALICE
        assert await login_tokens.take(tx, hash_of("a")) is None
        assert await login_tokens.take(tx, hash_of("b")) is None
        await login_tokens.delete_expired(tx)
        assert await tx.fetchval("SELECT count(*) FROM login_tokens") == 0


async def test_tokens_that_ran_out_long_ago_are_forgotten(people: Database) -> None:
    now = datetime.now(UTC)
    async with people.transaction() as tx:
        for name, days in [("a", 31), ("b", 29)]:
            new = NewSession(
                ALICE,
                DeviceId(name),
                None,
                hash_of(name),
                now - timedelta(days=days),
                None,
            )
            await tokens.open_sessions(tx, [Positioned(1, new)])
        await tokens.delete_expired(tx)
    assert await known(people) == {"b"}


async def test_a_session_of_authentication_runs_out(database: Database) -> None:
    stored = UiaSession("id", "operation", None, ["x"], {"held": "token\0"})
    async with database.transaction() as tx:
        await uia_sessions.save(tx, stored)
        stored.completed.append("y")
        await uia_sessions.save(tx, stored)
        assert await uia_sessions.session(tx, "id", HOUR) == stored
        assert await uia_sessions.session(tx, "other", HOUR) is None
        assert await uia_sessions.delete_old(tx, HOUR) == []
        await tx.execute(
            "UPDATE uia_sessions SET created_at = now() - interval '61 minutes'"
        )
        assert await uia_sessions.session(tx, "id", HOUR) is None
        assert await uia_sessions.delete_old(tx, HOUR) == [{"held": "token\0"}]
        assert not await uia_sessions.delete(tx, "id")


async def test_profile_fields_are_kept_as_json(people: Database) -> None:
    async with people.transaction() as tx:
        await profiles.put_field(tx, ALICE, "displayname", "A\0lice")
        await profiles.put_field(tx, ALICE, "org.example.x", {"n": [1, None]})
        await profiles.put_field(tx, ALICE, "org.example.x", {"n": [2]})
        assert await profiles.profile(tx, ALICE) == {
            "displayname": "A\0lice",
            "org.example.x": {"n": [2]},
        }
        gone = profiles.Edit(
            ALICE, "displayname", None, lambda _: None, tell_rooms=False
        )
        await profiles.edit(tx, [Positioned(7, gone)])
        assert list(await profiles.profile(tx, ALICE)) == ["org.example.x"]
        assert await profiles.profile(tx, BOB) == {}
