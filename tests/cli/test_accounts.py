"""`hearth token`, and what `hearth user` does with sessions and those who wait."""

import asyncio
import re

import asyncpg
import pytest

from tests.cli.test_commands import (  # noqa: F401 - fixtures
    configured,
    dsn,
    hearth,
    query,
)


def execute(where, *statements):
    async def run():
        connection = await asyncpg.connect(where)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def test_tokens_are_made_listed_and_deleted(hearth, configured):  # noqa: F811
    made = hearth("token", "create", "friends", "--uses", "3", "--days", "2")
    assert (made.status, made.out) == (0, "friends\n")
    random = hearth("token", "create").out.strip()
    assert re.fullmatch(r"[A-Za-z0-9]{16}", random)
    listed = [line.split("  ") for line in hearth("token", "list").out.splitlines()]
    assert [random, "0 of any used", "for ever"] in listed
    token, used, until = next(each for each in listed if each[0] == "friends")
    assert (token, used) == ("friends", "0 of 3 used")
    assert until.startswith("until 2")
    assert "already" in hearth("token", "create", "friends").err
    assert "are needed" in hearth("token", "create", "no good").err
    assert hearth("token", "delete", "friends").status == 0
    assert "no such token" in hearth("token", "delete", "friends").err


def test_services_are_added_and_keep_their_names(hearth, configured, tmp_path):  # noqa: F811
    file = tmp_path / "irc.yaml"
    lines = [
        "id: irc",
        "url: http://127.0.0.1:1",
        "as_token: a_token_of_the_service",
        "hs_token: a_token_of_the_server",
        "sender_localpart: irc_bot",
        "namespaces: {users: [{exclusive: true, regex: '@irc_.*'}]}",
    ]
    file.write_text("\n".join(lines))
    assert hearth("appservice", "add", str(file)).out == "added irc\n"
    assert hearth("appservice", "list").out == "irc  http://127.0.0.1:1  added  well\n"
    taken = hearth("user", "create", "irc_alice", "--password", "a long password")
    assert "reserved for the service irc" in taken.err
    file.write_text("id: irc")
    assert "as_token" in hearth("appservice", "add", str(file)).err
    assert hearth("appservice", "remove", "irc").out == "removed irc\n"
    assert "was added" in hearth("appservice", "remove", "irc").err
    assert hearth("appservice", "list").out == ""


def test_a_token_comes_with_its_invite_link(hearth, configured, tmp_path):  # noqa: F811
    file = tmp_path / "hearth.toml"
    file.write_text('public_base_url = "https://a.example.org"\n' + file.read_text())
    made = hearth("token", "create", "friends").out.splitlines()
    assert made == ["friends", "https://a.example.org/account/invite/friends"]


def test_accounts_are_linked_to_providers(hearth, configured, tmp_path):  # noqa: F811
    file = tmp_path / "hearth.toml"
    provider = (
        '[[oidc_providers]]\nid = "company"\nissuer = "https://login.example.org"\n'
        'client_id = "hearth"\nclient_secret = "x"\n'
    )
    base = 'public_base_url = "https://a.example.org"\n'
    file.write_text(base + file.read_text() + "\n" + provider)
    for name in ("alice", "bob"):
        hearth("user", "create", name, "--password", "wonderland")
    assert "no provider" in hearth("user", "link", "alice", "school", "a-1").err
    assert hearth("user", "link", "alice", "company", "a-1").status == 0
    assert "another account" in hearth("user", "link", "bob", "company", "a-1").err
    assert "@alice" in hearth("user", "unlink", "company", "a-1").out
    assert "no account" in hearth("user", "unlink", "company", "a-1").err
    assert "no user" in hearth("user", "link", "carol", "company", "a-1").err


@pytest.mark.parametrize("keep", [False, True])
def test_a_new_password_ends_sessions(hearth, configured, *, keep):  # noqa: F811
    hearth("user", "create", "alice", "--password", "wonderland")
    execute(
        configured,
        "INSERT INTO devices (user_id, device_id) VALUES ('@alice:example.org', 'D')",
        "INSERT INTO access_tokens (token_hash, user_id, device_id)"
        " VALUES ('x', '@alice:example.org', 'D')",
    )
    more = ["--keep-sessions"] if keep else []
    changed = hearth("user", "password", "alice", "--password", "looking glass", *more)
    assert changed.status == 0, changed.err
    assert query(configured, "SELECT count(*) FROM access_tokens") == int(keep)
    # What happened stands in the one order that servers follow.
    assert (query(configured, "SELECT count(*) FROM changes") > 0) is not keep


def test_who_waits_is_let_in(hearth, configured):  # noqa: F811
    hearth("user", "create", "bob", "--password", "builder")
    assert hearth("user", "waiting").out == ""
    execute(configured, "UPDATE users SET approved = false")
    assert hearth("user", "waiting").out == "@bob:example.org\n"
    assert hearth("user", "approve", "bob").out == "approved @bob:example.org\n"
    assert "does not wait" in hearth("user", "approve", "bob").err
