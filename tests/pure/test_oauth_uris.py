"""Redirect URIs: what clients may register, and what requests may then name."""

import pytest

from homeserver.oauth import uris

HOST = "example.com"


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/callback",
        "https://app.example.com/callback",
        "https://example.com:5173/?query=value",
    ],
)
@pytest.mark.parametrize("is_native", [False, True])
def test_web_addresses_below_the_client_are_good(uri: str, *, is_native: bool) -> None:
    assert uris.is_redirect_uri(uri, HOST, is_native=is_native)


@pytest.mark.parametrize(
    "uri",
    [
        "com.example.app:/callback",
        "com.example:/",
        "com.example:callback",
        "http://localhost/callback",
        "http://127.0.0.1/callback",
        "http://[::1]/callback",
    ],
)
def test_programs_have_addresses_of_their_own(uri: str) -> None:
    assert uris.is_redirect_uri(uri, HOST, is_native=True)
    assert not uris.is_redirect_uri(uri, HOST, is_native=False)


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/callback#fragment",
        "https://example.com/callback#",
        "http://example.com/callback",
        "https://localhost/callback",
        "http://localhost:1234/callback",
        "http://localhost:/callback",
        "http://user@localhost/callback",
        "example:/callback",
        "com.example.app://callback",
        "com.examples:/",
        "com.example-evil.app:/",
        "https://user@example.com/",
        "https://user:pw@example.com/",
        "https://example.com@evil.org/",
        "https://evil.org\\@example.com/",
        "https://evil.org\\.example.com/",
        "https://example.com.evil.org/",
        "https://evilexample.com/",
        "https:///example.com/",
        "https:example.com/",
        "https://exämple.com/",
        "https://example.com/ x",
        "https://example.com/\nx",
        "https://example.com:99999/",
        "javascript:alert(1)",
        "data:text/html,x",
        "",
        "//example.com/",
        "https://example.com/" + "x" * 3000,
    ],
)
def test_no_other_address_is(uri: str) -> None:
    assert not uris.is_redirect_uri(uri, HOST, is_native=True)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_loopback_may_have_any_port(host: str) -> None:
    registered = [f"http://{host}/callback?x=1"]
    asked = f"http://{host}:50123/callback?x=1"
    assert uris.is_registered(asked, registered, is_native=True)
    assert not uris.is_registered(asked, registered, is_native=False)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example.com/callback/",
        "https://app.example.com/callback?x",
        "https://APP.example.com/callback",
        "https://app.example.com:443/callback",
        "https://app.example.com/./callback",
        "http://localhost:1/other",
        "http://evil@localhost:1/callback",
        "http://localhost:1/callback#x",
        "http://localhost.evil.org:1/callback",
        "http://127.0.0.1:1/callback",
    ],
)
def test_what_is_registered_is_meant_to_the_letter(uri: str) -> None:
    registered = ["https://app.example.com/callback", "http://localhost/callback"]
    assert not uris.is_registered(uri, registered, is_native=True)


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://example.com", "example.com"),
        ("https://Example.com:8080/x", "example.com"),
        ("http://example.com", None),
        ("https://user@example.com", None),
        ("https://", None),
        ("nonsense", None),
    ],
)
def test_the_host_of_a_client(uri: str, host: str | None) -> None:
    assert uris.client_host(uri) == host
