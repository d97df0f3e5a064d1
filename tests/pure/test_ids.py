"""Identifiers are accepted as the grammar says, historical ones included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import ids
from federation.errors import Malformed

HASH = "acR1l0raoZnm60CBwAVgqbZqoO_mYU81xysh1u7XcJk"
STANDARD_HASH = HASH.replace("_", "/")

SERVER_NAMES = [
    "matrix.org",
    "matrix.org:8888",
    "1.2.3.4",
    "1.2.3.4:1234",
    "[1234:5678::abcd]",
    "[1234:5678::abcd]:5678",
    "[::ffff:1.2.3.4]",
    "localhost",
    "matrix.org:65535",
    "EXAMPLE.org",
    "xn--bcher-kva.example:0",
    "a" * 255,
]
NO_SERVER_NAMES = [
    "",
    ":8448",
    "matrix.org:",
    "matrix.org:123456",
    "matrix.org:65536",
    "matrix.org:-1",
    "matrix.org:٣",
    "matrix.org:80:80",
    "bücher.example",
    "under_score.org",
    "matrix.org/",
    "matrix.org\n",
    " matrix.org",
    "user@matrix.org",
    "a" * 256,
    "a" * 253 + ":80",
    "1234:5678::abcd",
    "[1234:5678::abcd",
    "[1234:5678::abcd]5678",
    "[1234:5678::abcd]:",
    "[1234:5678::abcd]:x8",
    "[fe80::1%eth0]",
    "[example.org]",
    "[]",
]


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_server_names(name: str) -> None:
    assert ids.parse_server_name(name) == name


@pytest.mark.parametrize("name", NO_SERVER_NAMES)
def test_what_is_no_server_name(name: str) -> None:
    with pytest.raises(Malformed):
        ids.parse_server_name(name)


@pytest.mark.parametrize(
    "user_id",
    [
        "@alice:example.org",
        "@a._=-/+9:example.org:8448",
        "@Alice:example.org",
        "@:example.org",
        "@bücher 🐈\t\x01:[::1]:80",
        "@" + "a" * 242 + ":example.org",
    ],
)
def test_user_ids(user_id: str) -> None:
    assert ids.parse_user_id(user_id) == user_id
    assert ids.is_user_id(user_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "alice:example.org",
        "@alice",
        "@alice:",
        "@al:ice:example.org",
        "@al\0ice:example.org",
        "@al\ud83dice:example.org",
        "@alice:exa mple.org",
        "@" + "a" * 243 + ":example.org",
        "@" + "ü" * 122 + ":example.org",  # 135 characters, 257 bytes
        "!alice:example.org",
    ],
)
def test_what_is_no_user_id(text: str) -> None:
    with pytest.raises(Malformed):
        ids.parse_user_id(text)
    assert not ids.is_user_id(text)


@pytest.mark.parametrize("value", [None, 7, ["@alice:example.org"], {}])
def test_what_is_not_even_a_string(value: object) -> None:
    assert not ids.is_user_id(value)


def test_new_users_keep_to_the_strict_grammar() -> None:
    assert ids.parse_new_localpart("a-z_0.9=/+") == "a-z_0.9=/+"
    for localpart in ("", "Alice", "al ice", "älice", "al:ice", "alice\n"):
        with pytest.raises(Malformed):
            ids.parse_new_localpart(localpart)


@pytest.mark.parametrize(
    "room_id", ["!room:example.org", "!:example.org", "!r ö\n:example.org", "!" + HASH]
)
def test_room_ids(room_id: str) -> None:
    assert ids.parse_room_id(room_id) == room_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!",
        "!room",
        "!" + HASH[1:],
        "!" + HASH + "A",
        "!" + STANDARD_HASH,
        "!" + HASH + "\n",
        "!room:",
        "!ro\0om:example.org",
        "!ro\udfffom:example.org",
        "!" + "r" * 243 + ":example.org",
        "#room:example.org",
    ],
)
def test_what_is_no_room_id(text: str) -> None:
    with pytest.raises(Malformed):
        ids.parse_room_id(text)


def test_room_aliases() -> None:
    for alias in ("#room:example.org", "#:example.org", "#ein Raum 🐈:[::1]:80"):
        assert ids.parse_room_alias(alias) == alias
    for text in ("#room", "room:example.org", "#ro\0om:example.org", "#r:", "#" + HASH):
        with pytest.raises(Malformed):
            ids.parse_room_alias(text)


@pytest.mark.parametrize(
    "event_id", ["$143273582443PhrSn:example.org", "$" + HASH, "$" + STANDARD_HASH]
)
def test_event_ids(event_id: str) -> None:
    assert ids.parse_event_id(event_id) == event_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "$event",
        "$" + HASH[1:],
        "$" + HASH + "A",
        "$" + HASH[:-2] + "_/",  # of two alphabets
        "$event:",
        "$ev\0ent:example.org",
        "$ev\ud800ent:example.org",
        "$" + "e" * 243 + ":example.org",
        "event:example.org",
    ],
)
def test_what_is_no_event_id(text: str) -> None:
    with pytest.raises(Malformed):
        ids.parse_event_id(text)


def test_opaque_identifiers() -> None:
    assert ids.parse_opaque("AZaz09._~-", "a session ID") == "AZaz09._~-"
    for text in ("", "a b", "a/b", "a" * 256, "ä", "a\n"):
        with pytest.raises(Malformed, match="a session ID"):
            ids.parse_opaque(text, "a session ID")


def test_identifiers_come_apart() -> None:
    user_id = ids.parse_user_id("@alice:[::1]:8448")
    assert ids.server_of(user_id) == "[::1]:8448"
    assert ids.localpart_of(user_id) == "alice"


PARSERS = [
    ids.parse_server_name,
    ids.parse_user_id,
    ids.parse_new_localpart,
    ids.parse_room_id,
    ids.parse_room_alias,
    ids.parse_event_id,
]


@given(
    st.sampled_from(PARSERS),
    st.from_regex(r"[@!$#]?[^:]{0,300}(:[\[\]0-9a-z:.%]{0,20})?", fullmatch=True)
    | st.text(st.characters()),
)
def test_a_parser_gives_the_same_text_or_refuses_it(parse, text) -> None:
    try:
        assert parse(text) == text
    except Malformed:
        return
    assert len(text.encode()) <= 255 or parse is ids.parse_new_localpart


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":\0")),
    st.sampled_from(SERVER_NAMES),
)
def test_any_historical_localpart_is_accepted(localpart: str, server: str) -> None:
    user_id = f"@{localpart}:{server}"
    assert ids.is_user_id(user_id) == (len(user_id.encode()) <= 255)
