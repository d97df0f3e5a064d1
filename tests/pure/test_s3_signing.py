"""Requests to S3 are signed as botocore signs them."""

import hashlib
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Theirs
from hypothesis import given
from hypothesis import strategies as st

from homeserver.media.s3.signing import Credentials, Signer, escaped, query_string

NOW = datetime(2026, 3, 5, 7, 9, 11, tzinfo=UTC)
HOST = "store.example:9000"
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=20)
QUERIES = st.dictionaries(TEXT.filter(bool), TEXT, max_size=4)


@pytest.fixture(autouse=True, scope="module")
def at_that_time():
    with patch.object(botocore.auth, "get_current_datetime", lambda **_: NOW):
        yield


def theirs(token: str) -> Theirs:
    return Theirs("AKID", "s3cr3t/+", token or None)


def url_of(path: str, query: dict[str, str]) -> str:
    return f"http://{HOST}{path}?{query_string(list(query.items()))}"


@given(TEXT, QUERIES, st.binary(max_size=50), st.sampled_from(["", "a token="]))
def test_headers(key: str, query: dict[str, str], body: bytes, token: str) -> None:
    path = f"/bucket/{escaped(key, '/')}"
    request = AWSRequest(
        "PUT",
        url_of(path, query),
        data=body,
        headers={"range": "bytes=5-9", "Host": HOST},
    )
    request.context["payload_signing_enabled"] = True
    request.headers["Content-MD5"] = "so that the payload is signed"
    botocore.auth.S3SigV4Auth(theirs(token), "s3", "eu-north-1").add_auth(request)
    ours = Signer(Credentials("AKID", "s3cr3t/+", token), "eu-north-1").headers(
        "PUT",
        HOST,
        path,
        list(query.items()),
        hashlib.sha256(body).hexdigest(),
        NOW,
        {"range": "bytes=5-9", "content-md5": "so that the payload is signed"},
    )
    assert ours["Authorization"] == request.headers["Authorization"]


@given(TEXT, QUERIES, st.sampled_from(["", "a token="]))
def test_links(key: str, query: dict[str, str], token: str) -> None:
    path = f"/bucket/{escaped(key, '/')}"
    request = AWSRequest("GET", url_of(path, query))
    auth = botocore.auth.S3SigV4QueryAuth(theirs(token), "s3", "eu-north-1", 600)
    auth.add_auth(request)
    signer = Signer(Credentials("AKID", "s3cr3t/+", token), "eu-north-1")
    ours = signer.presigned(HOST, path, list(query.items()), 600, NOW)
    expected = urlsplit(request.url).query
    assert dict(parse_qsl(ours, True)) == dict(parse_qsl(expected, True))
