"""Log-in with web tokens, with a real LDAP directory, and without passwords."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from joserfc import jwk, jwt

from tests.support.app import PASSWORD, Running
from tests.support.browser import Browser
from tests.support.certificates import the_authority, the_ca_file
from tests.support.child import Child
from tests.support.homeserver import free_port

LOGIN = "/_matrix/client/v3/login"
JWT = "org.matrix.login.jwt"
SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/lib/openldap:/usr/bin")
Start = Callable[..., Awaitable[Running]]
BASE = "ou=people,dc=example,dc=org"

CONFIGURATION = """
modulepath {modules}
moduleload back_mdb
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
database mdb
suffix "dc=example,dc=org"
rootdn "cn=reader,dc=example,dc=org"
rootpw "reads all"
directory {data}
access to attrs=userPassword by anonymous auth by * none
access to * by self read by anonymous auth
"""
PEOPLE = """
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
dc: example
o: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: uid=ada,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: ada
cn: Ada Lovelace
sn: Lovelace
mail: ada@example.org
employeeType: staff
userPassword: difference engine

dn: uid=bea,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bea
cn: Bea
sn: B
userPassword: difference engine
"""


async def logs_in(server: Running, user: str, password: str) -> tuple[int, Any]:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
    }
    return await server.nobody.answer("POST", LOGIN, body)


# ── Web tokens ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
async def test_a_token_that_is_signed_logs_in(
    another: Start, tmp_path: Path, algorithm: str
) -> None:
    secret = "a secret of at least 32 characters"
    kinds: dict[str, Any] = {
        "HS256": lambda: jwk.OctKey.import_key(secret),
        "RS256": lambda: jwk.RSAKey.generate_key(2048),
        "ES256": lambda: jwk.ECKey.generate_key("P-256"),
        "EdDSA": lambda: jwk.OKPKey.generate_key("Ed25519"),
    }
    key, other = kinds[algorithm](), jwk.OctKey.import_key("another" * 6)
    file = tmp_path / "key"
    if algorithm == "ES256":
        file.write_text(json.dumps(jwk.KeySet([key]).as_dict(private=False)))
    elif algorithm != "HS256":
        file.write_bytes(key.as_pem(private=False))
    settings = {"secret": secret} if algorithm == "HS256" else {"key_file": str(file)}
    server = await another(
        jwt={
            "algorithm": algorithm,
            "issuer": "portal",
            "audiences": ["matrix"],
            "display_name": "name",
            **settings,
        }
    )
    flows = (await server.nobody.get(LOGIN))["flows"]
    assert {"type": JWT} in flows
    now = int(time.time())
    good = {"sub": "Ada", "iss": "portal", "aud": "matrix", "exp": now + 60}

    async def tries(claims: Any, header: Any = None, by: Any = key) -> Any:
        header = {"alg": algorithm, **(header or {})}
        signed = jwt.encode(header, claims, by, algorithms=["HS256", algorithm])
        body = {"type": JWT, "token": signed}
        return await server.nobody.answer("POST", LOGIN, body)

    status, reply = await tries({**good, "name": "Ada L."})
    assert (status, reply["user_id"]) == (200, "@ada:hearth.test")
    user = server.user(reply)
    profile = await user.get("/_matrix/client/v3/profile/@ada:hearth.test")
    assert profile["displayname"] == "Ada L."
    for change in (
        {"exp": now - 60},
        {"exp": "soon"},
        {"nbf": now + 60},
        {"iss": "another"},
        {"aud": "another"},
        {"aud": [["matrix"]]},
        {"sub": None},
        {"sub": "a b"},
    ):
        status, refused = await tries({**good, **change})
        assert status in (400, 403), (change, refused)
    # Another key; and the public key taken for a secret, or none at all.
    assert (await tries(good, {"alg": "HS256"}, other))[0] == 403
    unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."
    for token in (unsigned, "", "x" * 20_000, 7):
        body = {"type": JWT, "token": token}
        assert (await server.nobody.answer("POST", LOGIN, body))[0] in (400, 403)


# ── LDAP ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
async def slapd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """A directory with two people; its port. One above speaks TLS at once."""
    if SLAPD is None:
        pytest.skip("slapd is not installed")
    home = tmp_path_factory.mktemp("slapd")
    (home / "data").mkdir()
    certificate, key = the_authority().issue(home, "127.0.0.1", "localhost")
    (home / "slapd.conf").write_text(
        CONFIGURATION.format(
            modules="/usr/lib/ldap",
            certificate=certificate,
            key=key,
            data=home / "data",
        )
    )
    (home / "people.ldif").write_text(PEOPLE)
    conf = ("-f", str(home / "slapd.conf"))
    adding = await asyncio.create_subprocess_exec(
        SLAPD, "-T", "add", *conf, "-l", str(home / "people.ldif")
    )
    assert await adding.wait() == 0
    port = free_port()
    child = Child(
        [SLAPD, *conf, "-d", "0", "-h", f"ldap://127.0.0.1:{port}/"],
        log=home / "log.txt",
        cwd=home,
    )
    child.start()
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                break
        yield port
    finally:
        await child.stop()


def directory(port: int, **more: object) -> dict[str, Any]:
    return {
        "uri": f"ldap://127.0.0.1:{port}",
        "start_tls": True,
        "tls_ca_file": str(the_ca_file()),
        "base": BASE,
        **more,
    }


SEARCHING = {
    "bind_dn": "cn=reader,dc=example,dc=org",
    "bind_password": "reads all",
    "filter": "(employeeType=staff)",
}


async def test_a_directory_knows_its_people(another: Start, slapd: int) -> None:
    server = await another(ldap=directory(slapd))
    for user, password in (
        ("ada", "wrong"),
        ("ada", ""),
        ("nobody", "difference engine"),
        ("ada,ou=people", "difference engine"),
        ("*", "difference engine"),
    ):
        status, _ = await logs_in(server, user, password)
        assert status == 403, user
    status, reply = await logs_in(server, "Ada", "difference engine")
    assert (status, reply["user_id"]) == (200, "@ada:hearth.test")
    ada = server.user(reply)
    profile = await ada.get("/_matrix/client/v3/profile/@ada:hearth.test")
    assert profile["displayname"] == "Ada Lovelace"
    known = await ada.get("/_matrix/client/v3/account/3pid")
    assert [each["address"] for each in known["threepids"]] == ["ada@example.org"]
    # The same password is shown for what needs it, and on the pages.
    where = f"/_matrix/client/v3/devices/{ada.device_id}"
    status, asked = await ada.answer("DELETE", where, {})
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": "ada"},
        "password": "difference engine",
        "session": asked["session"],
    }
    assert await ada.call("DELETE", where, {"auth": auth}) == {}
    async with Browser(server.base_url) as browser:
        await browser.open("/account/login")
        await browser.submit(name="ada", password="difference engine")
        assert browser.page.title == "Your account"
    # Who has an account here keeps its password too.
    await server.registers("bea")
    for password in (PASSWORD, "difference engine"):
        assert (await logs_in(server, "bea", password))[0] == 200


async def test_only_some_may_come_in(another: Start, slapd: int) -> None:
    server = await another(ldap=directory(slapd, **SEARCHING))
    assert (await logs_in(server, "ada", "difference engine"))[0] == 200
    for user in ("bea", "a*", "ada)(uid=*", "ada\\2a"):
        assert (await logs_in(server, user, "difference engine"))[0] == 403, user


@pytest.mark.parametrize(
    "wrong",
    [{"tls_ca_file": ""}, {"bind_password": "wrong"}, {"uri": "ldap://127.0.0.1:9"}],
)
async def test_nobody_is_told_wrong_while_nobody_can_say(
    another: Start, slapd: int, wrong: dict[str, Any]
) -> None:
    server = await another(ldap={**directory(slapd, **SEARCHING), **wrong})
    assert (await logs_in(server, "ada", "difference engine"))[0] == 503


# ── Passwords ────────────────────────────────────────────────────────────────────────


async def test_passwords_can_be_switched_off(another: Start) -> None:
    server = await another()
    user = await server.registers()
    config = server.ctx.config
    without = await another(
        server.server._dsn,
        passwords={"log_in": False},
        data_dir=config.data_dir,
        signing_key_file=config.signing_key_file,
    )
    flows = [each["type"] for each in (await without.nobody.get(LOGIN))["flows"]]
    assert "m.login.password" not in flows
    assert (await logs_in(without, user.user_id, PASSWORD))[0] == 403
    status, refused = await without.nobody.answer(
        "POST", "/_matrix/client/v3/register", {"username": "x", "password": PASSWORD}
    )
    assert (status, refused["errcode"]) == (403, "M_FORBIDDEN")
    async with Browser(without.base_url) as browser:
        await browser.open("/account/login")
        assert browser.page.forms() == []
        await browser.open("/account/register")
        assert browser.page.forms() == []


async def test_time_does_not_tell_whose_password_came_from_elsewhere(
    another: Start,
) -> None:
    server = await another()
    imported, ours = await server.registers(), await server.registers()
    old = bcrypt.hashpw(b"old", bcrypt.gensalt(12)).decode()
    async with server.ctx.db.transaction() as tx:
        await tx.execute(
            "UPDATE users SET password_hash = $2 WHERE user_id = $1",
            imported.user_id,
            old,
        )
    took = []
    for user in (imported.user_id, ours.user_id, "@nobody:hearth.test"):
        began = time.monotonic()
        assert (await logs_in(server, user, "wrong"))[0] == 403
        took.append(time.monotonic() - began)
    # Each at the end of a step, though ours takes a moment and the other half of one.
    assert min(took) >= 0.5
    assert (await logs_in(server, imported.user_id, "old"))[0] == 200
