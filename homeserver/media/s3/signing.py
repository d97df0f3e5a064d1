"""AWS Signature Version 4, as S3 has it.

Names of headers and parameters, and their order, are Amazon's: "Authenticating
Requests (AWS Signature Version 4)" in the API reference of Amazon S3.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias
from urllib.parse import quote

NOTHING: Final = hashlib.sha256(b"").hexdigest()
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"

Query: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to the store."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def escaped(text: str, safe: str = "") -> str:
    """Percent-encoded as the signature wants it, all but what RFC 3986 lets stand."""
    return quote(text, safe=safe + "-_.~")


def query_string(query: Query) -> str:
    """A query in the order in which it is signed."""
    pairs = sorted((escaped(name), escaped(value)) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


class Signer:
    """Signs for one region. A day's key is derived once."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._credentials = credentials
        self._region = region
        self._key: tuple[str, bytes] = "", b""

    def headers(
        self,
        method: str,
        host: str,
        path: str,
        query: Query,
        payload: str,
        now: datetime,
        more: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """The headers of a request, `more` among them; `payload` is its body's hash.

        `path` is percent-encoded, as it is sent.
        """
        headers = {
            "host": host,
            "x-amz-content-sha256": payload,
            "x-amz-date": _stamp(now),
            **(more or {}),
        }
        if self._credentials.session_token:
            headers["x-amz-security-token"] = self._credentials.session_token
        signed, signature = self._sign(
            method, path, query_string(query), headers, payload, now
        )
        return headers | {
            "Authorization": (
                f"{_ALGORITHM} Credential={self._credentials.access_key}/"
                f"{self._scope(now)}, SignedHeaders={signed}, Signature={signature}"
            )
        }

    def presigned(
        self, host: str, path: str, query: Query, seconds: int, now: datetime
    ) -> str:
        """The query with which anybody may GET the path for so long."""
        whole = [
            *query,
            ("X-Amz-Algorithm", _ALGORITHM),
            ("X-Amz-Credential", f"{self._credentials.access_key}/{self._scope(now)}"),
            ("X-Amz-Date", _stamp(now)),
            ("X-Amz-Expires", str(seconds)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        if self._credentials.session_token:
            whole.append(("X-Amz-Security-Token", self._credentials.session_token))
        text = query_string(whole)
        _, signature = self._sign("GET", path, text, {"host": host}, _UNSIGNED, now)
        return f"{text}&X-Amz-Signature={signature}"

    def _sign(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload: str,
        now: datetime,
    ) -> tuple[str, str]:
        """The names of what is signed, and the signature."""
        names = sorted(headers)
        signed = ";".join(names)
        lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = "\n".join((_ALGORITHM, _stamp(now), self._scope(now), digest))
        return signed, _hmac(self._key_of(now), text).hex()

    def _scope(self, now: datetime) -> str:
        return f"{_day(now)}/{self._region}/s3/aws4_request"

    def _key_of(self, now: datetime) -> bytes:
        day = _day(now)
        if self._key[0] != day:
            key = f"AWS4{self._credentials.secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = _hmac(key, part)
            self._key = day, key
        return self._key[1]


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _day(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%d")
