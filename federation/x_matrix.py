"""How a server signs its HTTP requests: the X-Matrix authorization header.

Both ends stand here. What is signed is the method, the target as it stands on the
request line, both server names and the parsed body.

Spec: server-server-api#request-authentication
"""

import re
from dataclasses import dataclass
from typing import Final

from federation import canonical_json, signatures
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import BadSignature, Malformed
from federation.ids import KeyId, ServerName, parse_server_name
from federation.signatures import ED25519, SigningKey

MAX_HEADER_LENGTH: Final = 8192

# "the header begins with authorisation scheme X-Matrix, followed by one or more
# spaces, followed by a comma-separated list of parameters"; schemes are
# case-insensitive (RFC 9110, 11.1).
_SCHEME: Final = re.compile(r"X-Matrix +", re.IGNORECASE)
# token = 1*tchar (RFC 9110, 5.6.2)
_TCHAR: Final = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
# COMPAT(older servers): "allow colons to be included in values without requiring the
# value to be enclosed in quotes"; IPv6 server names hold brackets as well.
_BARE: Final = rf"[{_TCHAR}:\[\]]+"
# quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE (RFC 9110, 5.6.4)
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*"'
# auth-param = token BWS "=" BWS ( token / quoted-string ) (RFC 9110, 11.2)
_PARAMETER: Final = re.compile(rf"([{_TCHAR}]+)[ \t]*=[ \t]*({_QUOTED}|{_BARE})")
# Empty list elements are to be ignored (RFC 9110, 5.6.1).
_COMMAS: Final = re.compile(r"[ \t]*(?:,[ \t]*)+")
_BLANKS_AND_COMMAS: Final = re.compile(r"[ \t,]*")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class XMatrix:
    """What one Authorization header says.

    `destination` is None when an older server left it out.
    """

    origin: ServerName
    destination: ServerName | None
    key_id: KeyId
    signature: str

    @property
    def header(self) -> str:
        """The header's value, in the form that older servers understand, too."""
        destination = (
            "" if self.destination is None else f'destination="{self.destination}",'
        )
        return (
            f'X-Matrix origin="{self.origin}",{destination}'
            f'key="{self.key_id}",sig="{self.signature}"'
        )


def is_x_matrix(header: str) -> bool:
    """Whether an Authorization header uses this scheme at all."""
    return _SCHEME.match(header) is not None


def parse(header: str) -> XMatrix:
    """Read an Authorization header's value. Raises: Malformed.

    Unknown parameters are ignored; one that stands twice is an error.
    """
    if len(header) > MAX_HEADER_LENGTH:
        raise Malformed("the Authorization header is too long")
    scheme = _SCHEME.match(header)
    if scheme is None:
        raise Malformed("the Authorization header is not of the X-Matrix scheme")
    parameters = _parameters(header, scheme.end())
    destination = parameters.get("destination")
    # The specification's text calls it `signature`, its examples and all servers `sig`.
    signature = parameters.get("sig", parameters.get("signature"))
    if signature is None:
        raise Malformed("the Authorization header lacks sig")
    return XMatrix(
        origin=parse_server_name(_required(parameters, "origin")),
        destination=None if destination is None else parse_server_name(destination),
        key_id=_key_id(_required(parameters, "key")),
        signature=signature,
    )


def _parameters(header: str, position: int) -> dict[str, str]:
    found: dict[str, str] = {}
    position = _skip(_BLANKS_AND_COMMAS, header, position)
    while position < len(header):
        parameter = _PARAMETER.match(header, position)
        if parameter is None:
            raise Malformed("the Authorization header is not a list of name=value")
        name = parameter[1].lower()
        if name in found:
            raise Malformed(f"the Authorization header has {name} twice")
        found[name] = _unquoted(parameter[2])
        position = _skip(_COMMAS, header, parameter.end())
        if position == parameter.end() and position < len(header):
            if header[position:].strip(" \t"):
                raise Malformed("the Authorization header lacks a comma")
            break
    return found


def _skip(pattern: re.Pattern[str], header: str, position: int) -> int:
    match = pattern.match(header, position)
    return position if match is None else match.end()


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _required(parameters: dict[str, str], name: str) -> str:
    value = parameters.get(name)
    if value is None:
        raise Malformed(f"the Authorization header lacks {name}")
    return value


def _key_id(value: str) -> KeyId:
    algorithm, colon, version = value.partition(":")
    if not (algorithm and colon and version) or len(value) > 255:
        raise Malformed("a key ID must be an algorithm, a colon and a version")
    if not value.isascii() or not value.isprintable():
        raise Malformed("a key ID must be printable ASCII")
    return KeyId(value)


def signed_object(
    method: str,
    uri: str,
    origin: ServerName,
    destination: ServerName,
    content: JsonValue = None,
) -> JsonObject:
    """The JSON object that stands for a request when it is signed.

    `uri` is the path with its query, exactly as on the request line; `content` is the
    parsed body and None when the request has none.
    """
    request: JsonObject = {
        "method": method,
        "uri": uri,
        "origin": origin,
        "destination": destination,
    }
    if content is not None:
        request["content"] = content
    return request


def sign(
    method: str,
    uri: str,
    origin: ServerName,
    destination: ServerName,
    content: bytes | None,
    key: SigningKey,
) -> XMatrix:
    """Sign a request of ours; `content` is its body in canonical form.

    The same as signing `signed_object`, without encoding a large body once more.
    """
    request = canonical_json.encode(signed_object(method, uri, origin, destination))
    if content is not None:
        # "content" sorts before all other keys.
        request = b'{"content":' + content + b"," + request[1:]
    return XMatrix(
        origin=origin,
        destination=destination,
        key_id=key.key_id,
        signature=signatures.encode_base64(key.key.sign(request).signature),
    )


def check_destination(auth: XMatrix, our_name: ServerName) -> None:
    """Raise BadSignature when the request was meant for another server.

    "If this property is included, but the value does not match the receiving server's
    name, the receiving server must deny the request".
    """
    if auth.destination is not None and auth.destination != our_name:
        raise BadSignature(f"the request was signed for {auth.destination}")


def check_signature(auth: XMatrix, request: JsonObject, public: bytes) -> None:
    """Raise BadSignature unless the key signed this request.

    `request` is our own `signed_object` of what has arrived, with `auth.origin`.
    """
    if not auth.key_id.startswith(ED25519):
        raise BadSignature(f"unknown signing algorithm in {auth.key_id}")
    try:
        signature = signatures.decode_base64(auth.signature)
        message = signatures.signable_bytes(request)
    except Malformed as error:
        raise BadSignature(f"the request's signature cannot be read: {error}") from None
    if not signatures.is_valid_signature(message, signature, public):
        raise BadSignature(f"the request's signature with {auth.key_id} is wrong")
