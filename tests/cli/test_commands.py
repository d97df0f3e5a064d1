"""The `hearth` command as a person or a script meets it."""

import asyncio
import io
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web

from homeserver.accounts.passwords import check_password
from homeserver.cli import check as checking
from homeserver.cli.main import main
from homeserver.config import Config, sample
from homeserver.demo.certificates import CertificateAuthority
from homeserver.signing_key import read_or_make

REPOSITORY = Path(__file__).parents[2]

# Runs a private PostgreSQL, as `hearth serve` does, until its input ends.
RUNNING = """
import asyncio, sys
from pathlib import Path
from homeserver.db.embedded import EmbeddedPostgres

async def run():
    async with EmbeddedPostgres(Path(sys.argv[1])) as server:
        print(server.dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(run())
"""


class Ended:
    """How the command ended, and what it said."""

    def __init__(self, status, out, err):
        self.status = status
        self.out = out
        self.err = err


@pytest.fixture
def hearth(tmp_path, monkeypatch, capsys):
    """Runs the command in a directory of its own, as if typed there."""
    monkeypatch.chdir(tmp_path)

    def run(*args, typed=""):
        monkeypatch.setattr(sys, "argv", ["hearth", *args])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ended(ended.value.code or 0, said.out, said.err)

    return run


def query(dsn, sql, *args):
    async def ask():
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(sql, *args)
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.fixture
async def dsn(new_dsn):
    return await new_dsn()


@pytest.fixture
def configured(tmp_path, dsn):
    """A hearth.toml in the directory, with a database that is there."""
    text = (
        f'server_name = "example.org"\ndatabase_url = "{dsn}"\n[[listen]]\nport = 0\n'
    )
    (tmp_path / "hearth.toml").write_text(text)
    return dsn


# ── init and config ──


def test_init_writes_a_file_that_says_what_was_asked_and_can_be_started(
    hearth, tmp_path
):
    ended = hearth(
        *("init", "example.org", "--data-dir", "/srv/hearth", "--bind", "::"),
        *("--port", "80", "--public-base-url", "https://m.example.org"),
    )
    assert ended.status == 0
    assert "hearth serve" in ended.out
    file = tmp_path / "hearth.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    config = Config.load(file)
    assert config.server_name == "example.org"
    assert config.data_dir == "/srv/hearth"
    assert config.public_base_url == "https://m.example.org"
    assert (config.listen[0].bind, config.listen[0].port) == ("::", 80)
    assert [p.name for p in tmp_path.iterdir()] == ["hearth.toml"]


def test_init_keeps_what_is_there_unless_forced(hearth, tmp_path):
    (tmp_path / "hearth.toml").write_text("# mine")
    ended = hearth("init", "example.org")
    assert ended.status == 1
    assert "--force" in ended.err
    assert (tmp_path / "hearth.toml").read_text() == "# mine"
    assert hearth("init", "example.org", "--force").status == 0
    assert Config.load(tmp_path / "hearth.toml").server_name == "example.org"


def test_init_refuses_what_could_not_be_started_and_writes_nothing(hearth, tmp_path):
    ended = hearth("init", "not a name")
    assert ended.status == 1
    assert "is not a server name" in ended.err
    assert "Traceback" not in ended.err
    assert hearth("init", "example.org", "--database-url", "x").status == 1
    assert hearth("init").status == 2  # nobody is there to be asked
    assert list(tmp_path.iterdir()) == []


def test_config_check_takes_the_file_here_or_the_one_named_before_or_after(
    hearth, tmp_path
):
    assert "built-in defaults: good, for localhost" in hearth("config", "check").out
    (tmp_path / "hearth.toml").write_text('server_name = "here.org"')
    (tmp_path / "other.toml").write_text('server_name = "other.org"')
    assert "for here.org" in hearth("config", "check").out
    for args in (
        ("--config", "other.toml", "config", "check"),
        ("config", "check", "--config", "other.toml"),
        ("-c", "hearth.toml", "config", "check", "-c", "other.toml"),
    ):
        assert "other.toml: good, for other.org" in hearth(*args).out


@pytest.mark.parametrize(
    "command", [("config", "check"), ("serve",), ("migrate",), ("user", "list")]
)
def test_a_wrong_configuration_stops_every_command_with_line_reason_and_remedy(
    hearth, tmp_path, command
):
    (tmp_path / "hearth.toml").write_text('\nserver_nam = "a.org"\n')
    ended = hearth(*command)
    assert ended.status == 1
    assert "hearth.toml:2: unknown key `server_nam`" in ended.err
    assert 'server_name = "a.org"' in ended.err
    assert "Traceback" not in ended.err
    assert hearth(*command, "--config", "none.toml").status == 1


def test_config_sample_prints_the_sample(hearth):
    assert hearth("config", "sample").out == sample.render()


def test_help_and_version(hearth):
    ended = hearth("--help")
    assert ended.status == 0
    for command in ("serve", "init", "user", "config", "migrate", "demo", "check"):
        assert command in ended.out
    assert hearth("--version").out.startswith("hearth ")
    assert hearth("no-such-command").status == 2


# ── migrate ──


def test_migrate_tells_what_it_did(hearth, tmp_path, empty_dsn):
    (tmp_path / "hearth.toml").write_text(f'database_url = "{empty_dsn}"')
    assert "applied: tables.sql" in hearth("migrate").out
    assert "up to date" in hearth("migrate").out
    assert query(empty_dsn, "SELECT count(*) FROM users") == 0


def test_a_database_that_is_not_there_is_told_in_a_line(hearth, tmp_path):
    (tmp_path / "hearth.toml").write_text(
        f'database_url = "postgresql://a@/b?host={tmp_path}"'
    )
    for command in (("migrate",), ("user", "list"), ("serve",)):
        ended = hearth(*command)
        assert ended.status == 1
        assert "cannot reach the database" in ended.err
        assert "Traceback" not in ended.err


# ── user ──


def test_accounts_are_made_listed_and_given_passwords(hearth, configured):
    made = hearth("user", "create", "alice", "--admin", "--password", "wonderland")
    assert made.out == "made the administrator @alice:example.org\n"
    assert hearth("user", "create", "bob", typed="builder\n").status == 0
    assert hearth("user", "list").out == "@alice:example.org\n@bob:example.org\n"
    assert query(configured, "SELECT array_agg(user_id) FROM users WHERE admin") == [
        "@alice:example.org"
    ]

    def fits(user, password):
        kept = query(
            configured, "SELECT password_hash FROM users WHERE user_id = $1", user
        )
        return asyncio.run(check_password(password, kept)).fits

    assert fits("@alice:example.org", "wonderland")
    assert fits("@bob:example.org", "builder")
    changed = hearth("user", "password", "@bob:example.org", typed="new one\n")
    assert changed.out == "set the password of @bob:example.org\n"
    assert fits("@bob:example.org", "new one")
    assert not fits("@bob:example.org", "builder")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("create", "alice", "--password", "x"), "there is a user @alice:example.org"),
        (("create", "Alice", "--password", "x"), "may hold only a-z"),
        (("create", "@a:other.org", "--password", "x"), "this one is example.org"),
        (("create", "@a", "--password", "x"), "must end with a colon"),
        (("create", "carol"), "no password"),
        (("create", "carol", "--password", "x" * 600), "at most 512 characters"),
        (("password", "carol", "--password", "x"), "there is no user @carol"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(hearth, configured, args, reason):
    hearth("user", "create", "alice", "--password", "wonderland")
    ended = hearth("user", *args)
    assert ended.status == 1
    assert reason in ended.err
    assert "Traceback" not in ended.err
    assert hearth("user", "list").out == "@alice:example.org\n"


def test_accounts_are_made_beside_a_running_server_and_without_one(hearth, tmp_path):
    data_dir = tmp_path / "data"
    server = subprocess.Popen(
        [sys.executable, "-c", RUNNING, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    )
    try:
        dsn = server.stdout.readline().strip()
        assert hearth("user", "create", "alice", "--password", "x").status == 0
        assert query(dsn, "SELECT count(*) FROM users") == 1
    finally:
        server.communicate(timeout=30)
    assert hearth("user", "create", "bob", "--password", "x").status == 0
    assert hearth("user", "list").out == "@alice:localhost\n@bob:localhost\n"
    # Its own database has been stopped again.
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


# ── check ──


def test_check_looks_at_everything_and_finds_it_good(hearth, configured, tmp_path):
    read_or_make(tmp_path / "data" / "signing.key")
    ended = hearth("check", "--offline")
    assert ended.status == 0, ended.out
    assert "✗" not in ended.out
    for what in ("configuration", "database", "signing key", "address 127.0.0.1"):
        assert f"✓ {what}" in ended.out


def test_check_before_the_first_start(hearth):
    ended = hearth("check", "--offline")
    assert "will be made at the first start" in ended.out
    assert "PostgreSQL" in ended.out


def test_check_tells_what_is_wrong(hearth, tmp_path):
    authority = CertificateAuthority.create()
    certificate, _ = authority.issue(tmp_path, "localhost", "127.0.0.1")
    (tmp_path / "other").mkdir()
    _, key = authority.issue(tmp_path / "other", "localhost", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "hearth.toml").write_text(
            f"""
            database_url = "postgresql://a@/b?host={tmp_path}"
            signing_key_file = "bad.key"
            [[listen]]
            port = {port}
            tls_certificate = "{certificate}"
            tls_key = "{key}"
            """
        )
        (tmp_path / "bad.key").write_text("not a key")
        (tmp_path / "bad.key").chmod(0o600)
        ended = hearth("check", "--offline")
    assert ended.status == 1
    for what in (
        "database: cannot reach",
        "signing key: ",
        f"address 127.0.0.1 port {port}: cannot be used",
        f"certificate {certificate}: does not go with",
    ):
        assert f"✗ {what}" in ended.out


def test_check_sees_a_signing_key_that_others_can_read(hearth, configured, tmp_path):
    read_or_make(tmp_path / "data" / "signing.key")
    (tmp_path / "data" / "signing.key").chmod(0o644)
    ended = hearth("check", "--offline")
    assert ended.status == 1
    assert "others can read" in ended.out


def test_check_of_a_wrong_configuration(hearth, tmp_path):
    (tmp_path / "hearth.toml").write_text("[loging]\n")
    ended = hearth("check")
    assert ended.status == 1
    assert "hearth.toml:1: unknown section `loging`" in ended.out


def test_certificates_are_compared_with_the_server_name(tmp_path):
    authority = CertificateAuthority.create()
    certificate, key = authority.issue(tmp_path, "localhost", "127.0.0.1")

    def finding(server_name):
        file = tmp_path / "hearth.toml"
        file.write_text(
            f'server_name = "{server_name}"\n[[listen]]\n'
            f'tls_certificate = "{certificate}"\ntls_key = "{key}"\n'
        )
        config = Config.load(file)
        return checking._certificate(config, config.listen[0])

    assert finding("localhost").mark is checking.Mark.GOOD
    assert finding("127.0.0.1:8448").mark is checking.Mark.GOOD
    elsewhere = finding("example.org")
    assert elsewhere.mark is checking.Mark.NOTE
    assert "others expect example.org" in elsewhere.seen


async def test_others_find_the_server_or_not(tmp_path):
    authority = CertificateAuthority.create()
    authority.write_ca(tmp_path / "ca.pem")
    certificate, key = authority.issue(tmp_path, "localhost", "127.0.0.1")

    async def version(_):
        return web.json_response({"server": {"name": "x", "version": "1"}})

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    app = web.Application()
    app.router.add_get("/_matrix/federation/v1/version", version)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    file = tmp_path / "hearth.toml"

    async def finding(allow):
        file.write_text(
            f'server_name = "127.0.0.1:{port}"\n[federation]\nca_file = "ca.pem"\n'
            f"allow_addresses = {allow}\n"
        )
        return await checking._seen_by_others(Config.load(file))

    try:
        found = await finding('["127.0.0.0/8"]')
        assert found == checking.good(
            "other servers find it", f"at 127.0.0.1 port {port}"
        )
        refused = await finding("[]")
        assert refused.mark is checking.Mark.WRONG
    finally:
        await runner.cleanup()
    gone = await finding('["127.0.0.0/8"]')
    assert gone.mark is checking.Mark.WRONG


def test_the_command_can_be_run_as_a_module(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "homeserver", "config", "check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "built-in defaults" in ended.stdout
