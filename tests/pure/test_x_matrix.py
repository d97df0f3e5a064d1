"""The X-Matrix header: our two ends against each other and against signedjson."""

import base64
from typing import Any

import nacl.signing
import pytest
import signedjson.key
import signedjson.sign
from hypothesis import example, given
from hypothesis import strategies as st

from federation import canonical_json, x_matrix
from federation.errors import BadSignature, Malformed
from federation.ids import KeyId, ServerName, parse_server_name
from federation.signatures import SigningKey
from federation.x_matrix import XMatrix

KEY = SigningKey.from_seed(KeyId("ed25519:k1"), bytes(range(32)))
ORIGIN = ServerName("origin.hs.example.com")
DESTINATION = ServerName("destination.hs.example.com")

JSON_OBJECTS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)
URIS = st.text(
    "abcdefghijklmnopqrstuvwxyz/%?=&0123456789.-_~", min_size=1, max_size=60
).map(lambda rest: "/" + rest)


def request(**changes: Any) -> dict[str, Any]:
    fields = {
        "method": "PUT",
        "uri": "/_matrix/federation/v1/send/1?a=b",
        "origin": ORIGIN,
        "destination": DESTINATION,
        "content": {"pdus": [], "n": 1},
    }
    return x_matrix.signed_object(**(fields | changes))


def sign(sent: dict[str, Any]) -> XMatrix:
    content = sent.get("content")
    return x_matrix.sign(
        sent["method"],
        sent["uri"],
        sent["origin"],
        sent["destination"],
        None if content is None else canonical_json.encode(content),
        KEY,
    )


@given(method=st.sampled_from(["GET", "PUT", "POST"]), uri=URIS, content=JSON_OBJECTS)
def test_what_one_end_signs_the_other_accepts(method, uri, content) -> None:
    sent = request(method=method, uri=uri, content=content)
    received = x_matrix.parse(sign(sent).header)
    assert received.origin == ORIGIN
    assert received.destination == DESTINATION
    assert received.key_id == "ed25519:k1"
    x_matrix.check_destination(received, DESTINATION)
    x_matrix.check_signature(received, sent, KEY.public)


def test_the_signature_is_that_of_the_specifications_example_code() -> None:
    sent = request()
    oracle = signedjson.key.decode_signing_key_base64(
        "ed25519", "k1", base64.b64encode(bytes(range(32))).decode().rstrip("=")
    )
    signed = signedjson.sign.sign_json(dict(sent), ORIGIN, oracle)
    expected = signed["signatures"][ORIGIN]["ed25519:k1"]
    header = sign(sent).header
    assert header == (
        f'X-Matrix origin="{ORIGIN}",destination="{DESTINATION}",'
        f'key="ed25519:k1",sig="{expected}"'
    )


def test_a_request_without_a_body_signs_no_content() -> None:
    assert "content" not in request(method="GET", content=None)
    assert request(content={})["content"] == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "POST"},
        {"uri": "/_matrix/federation/v1/send/1"},
        {"origin": ServerName("other.example.com")},
        {"destination": ServerName("other.example.com")},
        {"content": {"pdus": [], "n": 2}},
        {"content": None},
    ],
)
def test_a_signature_covers_every_part(changes) -> None:
    auth = sign(request())
    x_matrix.check_signature(auth, request(), KEY.public)
    with pytest.raises(BadSignature):
        x_matrix.check_signature(auth, request(**changes), KEY.public)


def test_another_key_does_not_verify() -> None:
    auth = sign(request())
    other = SigningKey.generate("k1")
    with pytest.raises(BadSignature):
        x_matrix.check_signature(auth, request(), other.public)


def test_another_algorithm_and_a_garbled_signature_are_bad_signatures() -> None:
    auth = sign(request())
    for key_id, signature in [
        (KeyId("curve448:k1"), auth.signature),
        (auth.key_id, "not base64 ä"),
        (auth.key_id, ""),
        (auth.key_id, auth.signature[:-4]),
    ]:
        wrong = XMatrix(ORIGIN, DESTINATION, key_id, signature)
        with pytest.raises(BadSignature):
            x_matrix.check_signature(wrong, request(), KEY.public)


def test_a_request_for_another_server_is_refused() -> None:
    auth = sign(request())
    with pytest.raises(BadSignature):
        x_matrix.check_destination(auth, ServerName("we.example.com"))
    older = XMatrix(ORIGIN, None, KEY.key_id, auth.signature)
    x_matrix.check_destination(older, ServerName("we.example.com"))


PARSED = XMatrix(ORIGIN, DESTINATION, KeyId("ed25519:key1"), "ABC+/def")


@pytest.mark.parametrize(
    "header",
    [
        # The specification's own form.
        (
            f'X-Matrix origin="{ORIGIN}",destination="{DESTINATION}",'
            'key="ed25519:key1",sig="ABC+/def"'
        ),
        # Names and scheme are case-insensitive, order does not matter.
        (
            f'x-matrix SIG="ABC+/def",Key="ed25519:key1",DESTINATION="{DESTINATION}",'
            f'oRiGiN="{ORIGIN}"'
        ),
        # Blanks and tabs around commas, several spaces after the scheme.
        (
            f'X-Matrix   origin="{ORIGIN}" , \tdestination="{DESTINATION}"\t,'
            'key="ed25519:key1" ,sig="ABC+/def"  '
        ),
        # Tokens may go without quotes; older servers do so with colons.
        (
            f"X-Matrix origin={ORIGIN},destination={DESTINATION},key=ed25519:key1,"
            'sig="ABC+/def"'
        ),
        # Backslash and character mean the character.
        (
            f'X-Matrix origin="{ORIGIN}",destination="\\d{DESTINATION[1:]}",'
            'key="ed25519\\:key1",sig="ABC\\+/def"'
        ),
        # Unknown parameters are ignored; empty list elements, too (RFC 9110, 5.6.1).
        (
            f'X-Matrix ,origin="{ORIGIN}",,new="a,\\"c",destination="{DESTINATION}", ,'
            'key="ed25519:key1",sig="ABC+/def",'
        ),
        # BWS around "=" (RFC 9110, 11.2).
        (
            f'X-Matrix origin = "{ORIGIN}",destination= "{DESTINATION}",'
            'key ="ed25519:key1",sig="ABC+/def"'
        ),
        # The text's name for `sig`.
        (
            f'X-Matrix origin="{ORIGIN}",destination="{DESTINATION}",'
            'key="ed25519:key1",signature="ABC+/def"'
        ),
    ],
)
def test_every_form_of_the_header_is_understood(header) -> None:
    assert x_matrix.is_x_matrix(header)
    assert x_matrix.parse(header) == PARSED


def test_an_older_server_names_no_destination() -> None:
    header = f'X-Matrix origin={ORIGIN},key="ed25519:key1",sig="ABC+/def"'
    parsed = x_matrix.parse(header)
    assert parsed == XMatrix(ORIGIN, None, KeyId("ed25519:key1"), "ABC+/def")
    assert "destination" not in parsed.header
    assert x_matrix.parse(parsed.header) == parsed


@pytest.mark.parametrize("name", ["[::1]", "[2001:db8::1]:8448", "1.2.3.4:80"])
def test_server_names_that_are_addresses_survive(name) -> None:
    for value in (name, f'"{name}"'):
        header = f'X-Matrix origin={value},key="ed25519:a",sig="b"'
        assert x_matrix.parse(header).origin == name


@pytest.mark.parametrize(
    "header",
    [
        "",
        "X-Matrix",
        "X-Matrix ",
        "X-Matrix\torigin=a,key=b:c,sig=d",
        "Bearer origin=a,key=b:c,sig=d",
        "X-MatrixX origin=a,key=b:c,sig=d",
        "X-Matrix origin=a,key=b:c",
        "X-Matrix origin=a,sig=d",
        "X-Matrix key=b:c,sig=d",
        "X-Matrix origin=a,key=b:c,sig=d,sig=e",
        "X-Matrix origin=a,ORIGIN=b,key=b:c,sig=d",
        "X-Matrix origin=a key=b:c,sig=d",
        'X-Matrix origin="a"key=b:c,sig=d',
        'X-Matrix origin="a,key=b:c,sig=d',
        'X-Matrix origin=a,key=b:c,sig="d\\"',
        'X-Matrix origin="a\x00",key=b:c,sig=d',
        "X-Matrix origin=a,key=b:c,sig=d,rest",
        "X-Matrix origin=,key=b:c,sig=d",
        "X-Matrix origin=a/b,key=b:c,sig=d",
        'X-Matrix origin="a:99999",key=b:c,sig=d',
        'X-Matrix origin="a",destination="ä",key=b:c,sig=d',
        "X-Matrix origin=a,key=bc,sig=d",
        "X-Matrix origin=a,key=b:,sig=d",
        'X-Matrix origin=a,key="b:ä",sig=d',
        f"X-Matrix origin=a,key=b:{'c' * 300},sig=d",
        f"X-Matrix origin=a,key=b:c,sig={'d' * 9000}",
    ],
)
def test_a_header_that_breaks_the_grammar_is_malformed(header) -> None:
    with pytest.raises(Malformed):
        x_matrix.parse(header)


@given(
    st.text(max_size=200)
    | st.text('X-Matrix origndestkyg=",\\: \t[]', max_size=200).map(
        lambda rest: "X-Matrix " + rest
    )
)
@example("X-Matrix " + ", " * 4000)
@example('X-Matrix a="' + "\\" * 8000)
@example("X-Matrix " + "a=b," * 2000)
def test_any_text_is_parsed_or_malformed(header) -> None:
    try:
        parsed = x_matrix.parse(header)
    except Malformed:
        return
    assert parse_server_name(parsed.origin) == parsed.origin


SAFE_VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40
)


@given(SAFE_VALUES)
def test_quoted_values_come_back_unescaped(value) -> None:
    escaped = "".join("\\" + c if c in '"\\' else c for c in value)
    header = f'X-Matrix origin=a,key=b:c,sig="{escaped}"'
    assert x_matrix.parse(header).signature == value


def test_a_signature_from_nacl_alone_is_accepted() -> None:
    key = nacl.signing.SigningKey(bytes(32))
    message = b'{"destination":"b","method":"GET","origin":"a","uri":"/x"}'
    signature = base64.b64encode(key.sign(message).signature).decode().rstrip("=")
    auth = x_matrix.parse(
        f'X-Matrix origin=a,destination=b,key="ed25519:1",sig="{signature}"'
    )
    sent = x_matrix.signed_object("GET", "/x", ServerName("a"), ServerName("b"))
    x_matrix.check_signature(auth, sent, bytes(key.verify_key))
