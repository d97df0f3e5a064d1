"""A SAML identity provider: the other half of pysaml2, with keys of its own."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.config import Config
from saml2.metadata import entity_descriptor
from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
from saml2.server import Server

ISSUER = "https://idp.example.org/metadata"


def _self_signed(home: Path) -> tuple[Path, Path]:
    """A certificate as metadata hold them, and its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (home / "idp.crt").write_bytes(certificate.public_bytes(pem))
    (home / "idp.key").write_bytes(
        key.private_bytes(
            pem,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return home / "idp.crt", home / "idp.key"


class IdentityProvider:
    """It signs what it says of people."""

    def __init__(self, home: Path) -> None:
        self._home = home
        home.mkdir(exist_ok=True)
        certificate, key = _self_signed(home)
        self._settings: dict[str, Any] = {
            "entityid": ISSUER,
            "key_file": str(key),
            "cert_file": str(certificate),
            "service": {
                "idp": {
                    "endpoints": {
                        "single_sign_on_service": [
                            ("https://idp.example.org/sso", BINDING_HTTP_REDIRECT)
                        ]
                    },
                    "policy": {"default": {"attribute_restrictions": None}},
                }
            },
        }
        config = Config().load(self._settings)
        self.metadata_file = home / "idp.xml"
        self.metadata_file.write_text(str(entity_descriptor(config)))

    def knows(self, metadata: str) -> None:
        """Take in what this server says of itself."""
        file = self._home / "sp.xml"
        file.write_text(metadata)
        settings = {**self._settings, "metadata": {"local": [str(file)]}}
        self._server = Server(config=Config().load(settings))

    def answers(
        self, where: str, person: str, *, sign: bool = True, **attributes: list[str]
    ) -> tuple[str, dict[str, str]]:
        """Where the browser then sends a form, and the form."""
        query = parse_qs(urlsplit(where).query)
        asked = self._server.parse_authn_request(
            query["SAMLRequest"][0], BINDING_HTTP_REDIRECT
        )
        given = self._server.response_args(asked.message, [BINDING_HTTP_POST])
        response = self._server.create_authn_response(
            attributes,
            userid=person,
            name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=person),
            authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"},
            sign_assertion=sign,
            **{**given, "name_id_policy": None},
        )
        applied = self._server.apply_binding(
            BINDING_HTTP_POST,
            str(response),
            given["destination"],
            relay_state=query["RelayState"][0],
            response=True,
        )
        form = {"RelayState": query["RelayState"][0]}
        text = str(applied["data"])
        marker = 'name="SAMLResponse" value="'
        form["SAMLResponse"] = text.partition(marker)[2].partition('"')[0]
        assert form["SAMLResponse"], text
        return given["destination"], form
