"""What the server says of itself."""

import re
from collections.abc import Awaitable, Callable

from tests.support.app import Running

V3 = "/_matrix/client/v3"


async def test_versions_are_told_to_everybody(hearth: Running) -> None:
    told = await hearth.nobody.get("/_matrix/client/versions")
    assert {"v1.1", "v1.10"} <= set(told["versions"])
    assert told["unstable_features"]["org.matrix.simplified_msc3575"] is True
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
    assert told["m.3pid_changes"] == {"enabled": True}
    for name, path in [
        ("m.change_password", "/_matrix/client/v3/account/password"),
        ("m.get_login_token", "/_matrix/client/v1/login/get_token"),
    ]:
        assert told[name] == {"enabled": True}
        status, _ = await alice.answer("POST", path, {"new_password": "correct horse"})
        assert status == 401  # it asks for the password


async def test_other_servers_are_told_what_this_is(hearth: Running) -> None:
    told = await hearth.nobody.get("/_matrix/federation/v1/version")
    assert told["server"]["name"] == "Hearth"
    assert told["server"]["version"]


async def test_what_is_not_built_is_not_recognized(hearth: Running) -> None:
    alice = await hearth.registers()
    for path in ("/_matrix/client/v3/unheard_of", "/_matrix/client/v9/sync"):
        status, body = await alice.answer("GET", path)
        assert (status, body["errcode"]) == (404, "M_UNRECOGNIZED")
    status, body = await alice.answer("POST", V3 + "/capabilities", {})
    assert (status, body["errcode"]) == (405, "M_UNRECOGNIZED")


async def test_prometheus_reads_what_is_counted(
    another: Callable[..., Awaitable[Running]],
) -> None:
    hearth = await another(
        listen=[
            {"bind": "127.0.0.1", "port": 0},
            {"bind": "127.0.0.1", "port": 0, "serves": ["metrics"]},
        ]
    )
    status, _ = await hearth.nobody.answer("GET", "/metrics")
    assert status == 404
    alice = await hearth.registers("alice")
    for _ in range(3):
        await alice.get(V3 + "/account/whoami")
    port = hearth.server.addresses[1].port
    async with hearth.session.get(f"http://127.0.0.1:{port}/metrics") as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/plain")
        counted = await reply.text()
    labels = 'api="client",operation="get_token_owner"'
    for sample in (
        f'hearth_http_responses_total{{{labels},status="2xx"}} ',
        f"hearth_http_request_seconds_count{{{labels}}} ",
        "hearth_http_requests_working ",
        "hearth_commit_seconds_bucket",
        'hearth_memory_bytes{name="events"} ',
        'hearth_memory_limit_bytes{name="commits"} ',
        'hearth_cache_hits_total{name="access tokens"} ',
        'hearth_cache_misses_total{name="access tokens"} ',
        "hearth_memory_soft_limit_bytes ",
    ):
        assert sample in counted
    assert 'le="+Inf",operation="get_token_owner"' in counted
    # Whatever a process holds for long has a limit.
    held, limits = (
        dict(
            re.findall(
                rf'^hearth_memory_{kind}{{name="(.*?)"}} (\S+)$', counted, re.MULTILINE
            )
        )
        for kind in ("bytes", "limit_bytes")
    )
    assert held.keys() == limits.keys()
    for name, limit in limits.items():
        assert 0 <= float(held[name]) <= float(limit) > 0, name
