"""What the server says of itself."""

from tests.support.app import Running

V3 = "/_matrix/client/v3"


async def test_versions_are_told_to_everybody(hearth: Running) -> None:
    told = await hearth.nobody.get("/_matrix/client/versions")
    assert {"v1.1", "v1.10"} <= set(told["versions"])
    assert told["unstable_features"] == {}
    alice = await hearth.registers()
    assert await alice.get("/_matrix/client/versions") == told
    status, _ = await hearth.client("bad").answer("GET", "/_matrix/client/versions")
    assert status == 401


async def test_capabilities_say_what_is_true(hearth: Running) -> None:
    alice = await hearth.registers()
    told = (await alice.get(V3 + "/capabilities"))["capabilities"]
    versions = told["m.room_versions"]
    assert versions["default"] == "12"
    assert versions["available"] == dict.fromkeys(map(str, range(1, 13)), "stable")
    assert told["m.3pid_changes"] == {"enabled": False}
    for name, path in [
        ("m.change_password", "/_matrix/client/v3/account/password"),
        ("m.get_login_token", "/_matrix/client/v1/login/get_token"),
    ]:
        assert told[name] == {"enabled": True}
        status, _ = await alice.answer("POST", path, {"new_password": "x"})
        assert status == 401  # it asks for the password


async def test_other_servers_are_told_what_this_is(hearth: Running) -> None:
    told = await hearth.nobody.get("/_matrix/federation/v1/version")
    assert told["server"]["name"] == "Hearth"
    assert told["server"]["version"]


async def test_what_is_not_built_is_not_recognized(hearth: Running) -> None:
    alice = await hearth.registers()
    for path in ("/_matrix/client/v3/voip/turnServer", "/_matrix/client/v9/sync"):
        status, body = await alice.answer("GET", path)
        assert (status, body["errcode"]) == (404, "M_UNRECOGNIZED")
    status, body = await alice.answer("POST", V3 + "/capabilities", {})
    assert (status, body["errcode"]) == (405, "M_UNRECOGNIZED")
