"""Paths are split before they are decoded, and literals go before parameters."""

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.http.auth import Who
from homeserver.http.routes import Route, apis_of, build_trie
from homeserver.http.trie import BadPath, Trie, parameters_of, split

ROOM = "/_matrix/client/v3/rooms/{roomId}"


def trie_of(*paths: str) -> Trie[str]:
    trie: Trie[str] = Trie()
    for path in paths:
        trie.add("GET", path, path)
    return trie


def find(trie: Trie[str], path: str) -> tuple[str | None, list[str]]:
    targets, values = trie.find(split(path))
    return targets.get("GET"), values


def test_a_parameter_is_one_segment_decoded_after_the_split() -> None:
    trie = trie_of(ROOM + "/send/{eventType}/{txnId}")
    assert find(trie, "/_matrix/client/v3/rooms/%21a%2Fb%3Ahs/send/m.x/1%252F") == (
        ROOM + "/send/{eventType}/{txnId}",
        ["!a/b:hs", "m.x", "1%2F"],
    )
    assert find(trie, "/_matrix/client/v3/rooms/!a/b:hs/send/m.x/1") == (None, [])


@given(st.lists(st.text(min_size=0, max_size=20), min_size=1, max_size=4))
def test_whatever_is_quoted_into_a_segment_comes_out_of_it(values: list[str]) -> None:
    path = "/x/" + "/".join(f"{{p{n}}}" for n in range(len(values)))
    try:
        quoted = [quote(value, safe="") for value in values]
    except UnicodeEncodeError:
        return  # lone surrogates cannot be sent
    assert find(trie_of(path), "/x/" + "/".join(quoted)) == (path, values)


@given(st.lists(st.sampled_from(["a", "b", "{p}", ""]), min_size=1, max_size=5))
def test_every_path_finds_itself(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    others = ["/a", "/a/{p}", "/{p}/a", "/{p}/{p}/b", "/a/b/{p}/a"]
    trie = trie_of(*dict.fromkeys([*others, path]))
    sent = path.replace("{p}", "value")
    found, values = find(trie, sent)
    assert found is not None
    # Filling the values in gives back what was sent.
    for value in values:
        found = found.replace("{p}", value, 1)
    assert found == sent


def test_a_literal_goes_before_a_parameter() -> None:
    trie = trie_of("/query/{queryType}", "/query/directory")
    assert find(trie, "/query/directory") == ("/query/directory", [])
    assert find(trie, "/query/profile") == ("/query/{queryType}", ["profile"])


def test_a_literal_that_leads_nowhere_is_a_value() -> None:
    trie = trie_of("/{kind}/{id}/x", "/room/{id}", "/room/list/y")
    assert find(trie, "/room/list/x") == ("/{kind}/{id}/x", ["room", "list"])
    assert find(trie, "/room/list") == ("/room/{id}", ["list"])
    assert find(trie, "/room/list/y") == ("/room/list/y", [])
    assert find(trie, "/room/list/z") == (None, [])


def test_an_empty_last_segment_is_a_segment() -> None:
    trie = trie_of("/pushrules/", "/state/{type}", "/state/{type}/{key}")
    assert find(trie, "/pushrules/") == ("/pushrules/", [])
    assert find(trie, "/pushrules") == (None, [])
    assert find(trie, "/state/m.x/") == ("/state/{type}/{key}", ["m.x", ""])
    assert find(trie, "/state/m.x") == ("/state/{type}", ["m.x"])


@pytest.mark.parametrize("bad", ["%", "%4", "%zz", "%ff", "%ed%a0%80", "%c3%28"])
def test_a_path_that_cannot_be_decoded_is_refused(bad: str) -> None:
    with pytest.raises(BadPath):
        split(f"/x/{bad}")


@given(st.text(alphabet=string.printable + "%é\udcff", max_size=40))
def test_any_path_is_split_or_refused(path: str) -> None:
    try:
        segments = split("/" + path)
    except BadPath:
        return
    assert len(segments) == path.count("/") + 1


def test_a_path_is_added_once() -> None:
    trie = trie_of("/a/{b}")
    with pytest.raises(ValueError, match="is there already"):
        trie.add("GET", "/a/{c}", "again")
    trie.add("PUT", "/a/{c}", "another method")


def test_parameters_are_named_by_the_path() -> None:
    assert parameters_of(ROOM + "/state/{eventType}/{stateKey}") == (
        "roomId",
        "eventType",
        "stateKey",
    )


def a_route(path: str, since: str | None = None) -> Route:
    return Route(
        method="GET",
        path=path,
        operation="x",
        endpoint=lambda _, __: NotImplemented,
        who=Who.NOBODY,
        limit=None,
        since=since,
        flag=None,
        aliases=(),
        max_body=0,
        long_poll=False,
        streams_body=False,
        names=parameters_of(path),
    )


def test_what_is_older_than_v1_1_answers_to_old_clients_too() -> None:
    old = a_route("/_matrix/client/v3/sync")
    new = a_route("/_matrix/client/v3/knock/{roomIdOrAlias}", since="1.1")
    assert old.paths() == ("/_matrix/client/v3/sync", "/_matrix/client/r0/sync")
    assert new.paths() == ("/_matrix/client/v3/knock/{roomIdOrAlias}",)


def test_a_listener_serves_only_its_apis() -> None:
    routes = [
        a_route("/_matrix/client/versions"),
        a_route("/_matrix/federation/v1/version"),
        a_route("/_matrix/key/v2/server"),
        a_route("/.well-known/matrix/server"),
        a_route("/metrics"),
    ]
    served = {
        api: {
            path
            for path in (each.path for each in routes)
            if build_trie(routes, [api]).find(split(path))[0]
        }
        for api in ("client", "federation", "metrics")
    }
    assert served == {
        "client": {"/_matrix/client/versions", "/.well-known/matrix/server"},
        "federation": {
            "/_matrix/federation/v1/version",
            "/_matrix/key/v2/server",
            "/.well-known/matrix/server",
        },
        "metrics": {"/metrics"},
    }
    assert apis_of("/_synapse/admin/v1/register") == {"client"}
