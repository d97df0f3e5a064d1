"""The sections [jwt] and [ldap]: more ways to log in with a client's own form."""

import re
from importlib.util import find_spec
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from homeserver.config import checks

_SECRET: Final = 32  # bytes, as RFC 7518 (3.2) wants for HS256
_URI: Final = re.compile(r"ldaps?://[^/\s?#]+")


def ldap_uri(value: str) -> None:
    """Empty, or the address of an LDAP server."""
    if value and not _URI.fullmatch(value):
        raise ValueError("it must look like ldaps://ldap.example.org:636")


class Jwt(Struct, frozen=True, kw_only=True):
    """Log-in with a JSON Web Token of another program (org.matrix.login.jwt)."""

    algorithm: Annotated[
        Literal[
            "",
            "HS256",
            "HS384",
            "HS512",
            "RS256",
            "RS384",
            "RS512",
            "PS256",
            "PS384",
            "PS512",
            "ES256",
            "ES384",
            "ES512",
            "EdDSA",
        ],
        Meta(description="How tokens are signed. Empty: there is no such log-in."),
    ] = ""
    secret: Annotated[
        str, Meta(description="For HS…: the secret, 32 characters or more.")
    ] = ""
    key_file: Annotated[
        str,
        Meta(
            description="For the others: the public key, a PEM file, or a JWK set.",
            extra={"path": "file"},
        ),
    ] = ""
    issuer: Annotated[
        str, Meta(description='What the claim "iss" must be. Empty: anything.')
    ] = ""
    audiences: Annotated[
        tuple[str, ...],
        Meta(
            description='What the claim "aud" must name one of. Empty: tokens must not'
            " have one, as it names somebody else."
        ),
    ] = ()
    localpart: Annotated[
        str, Meta(min_length=1, description="The claim that holds the user's name.")
    ] = "sub"
    display_name: Annotated[
        str, Meta(description="The claim with a new user's display name. Empty: none.")
    ] = ""
    sign_up: Annotated[
        bool, Meta(description="Whether accounts are made for names that are new.")
    ] = True

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if self.algorithm.startswith("HS"):
            if len(self.secret.encode()) < _SECRET:
                raise ValueError(f"`secret` needs {_SECRET} characters")
        elif self.algorithm and not self.key_file:
            raise ValueError("`key_file` is missing")


class Ldap(Struct, frozen=True, kw_only=True):
    """An LDAP directory that knows people's passwords. Needs hearth[ldap]."""

    uri: Annotated[
        str,
        Meta(
            description="Where it is, such as ldaps://ldap.example.org. Empty: none.",
            extra={"check": ldap_uri},
        ),
    ] = ""
    start_tls: Annotated[
        bool,
        Meta(description="Whether TLS is begun on an ldap:// connection, or nothing."),
    ] = False
    tls_ca_file: Annotated[
        str,
        Meta(
            description="The certificate authorities that may vouch for it, a PEM file."
            " Empty: the system's.",
            extra={"path": "file"},
        ),
    ] = ""
    base: Annotated[
        str,
        Meta(description="Below what people are, such as ou=people,dc=example,dc=org."),
    ] = ""
    uid: Annotated[
        str, Meta(min_length=1, description="The attribute with the name to log in by.")
    ] = "uid"
    display_name: Annotated[
        str, Meta(description="The one with a new user's display name. Empty: none.")
    ] = "cn"
    email: Annotated[
        str, Meta(description="The one with the e-mail address. Empty: none.")
    ] = "mail"
    bind_dn: Annotated[
        str,
        Meta(
            description="Who looks people up. Empty: nobody, and people are at"
            " UID=NAME,BASE."
        ),
    ] = ""
    bind_password: Annotated[str, Meta(description="The password to it.")] = ""
    filter: Annotated[
        str,
        Meta(
            description="Who of those may come in, such as"
            ' "(memberOf=cn=matrix,dc=example,dc=org)"; needs bind_dn. Empty:'
            " everybody."
        ),
    ] = ""
    sign_up: Annotated[
        bool, Meta(description="Whether accounts are made for people who are new.")
    ] = True
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="How long it may take for an answer.")
    ] = 5.0

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if not self.uri:
            return
        checks.not_empty(self.base)
        if find_spec("ldap3") is None:
            raise ValueError("it needs `pip install hearth-homeserver[ldap]`")
        if self.start_tls and self.uri.startswith("ldaps:"):
            raise ValueError("`start_tls` is for ldap://, not ldaps://")
        if self.filter and not self.bind_dn:
            raise ValueError("`filter` needs `bind_dn`")
        if bool(self.bind_dn) != bool(self.bind_password):
            raise ValueError("`bind_dn` and `bind_password` go together")
