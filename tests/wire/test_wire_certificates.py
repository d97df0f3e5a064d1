"""The throw-away authority: strict verifiers accept what it issues, and no more."""

import asyncio
import ssl

import pytest
from wire_support import Wire

from homeserver.demo.certificates import CertificateAuthority


def strict_context(wire: Wire) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=str(wire.authority.write_ca(wire.directory / "ca.pem"))
    )
    # The default from Python 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def connect(wire: Wire, port: int, name: str) -> None:
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=strict_context(wire), server_hostname=name
    )
    writer.close()


async def test_it_vouches_for_names_and_addresses(wire: Wire) -> None:
    remote = await wire.remote("a.test", "b.test", "127.0.0.1", "::1")
    for name in ("a.test", "b.test", "127.0.0.1", "::1"):
        await connect(wire, remote.port, name)
    for name in ("c.test", "127.0.0.2"):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(wire, remote.port, name)


async def test_another_authority_is_another_authority(wire: Wire) -> None:
    remote = await wire.remote("a.test", authority=CertificateAuthority.create())
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(wire, remote.port, "a.test")


def test_files_have_safe_names_and_the_key_is_ours_alone(wire: Wire) -> None:
    directory = wire.directory / "made" / "for it"
    certificate, key = wire.authority.issue(directory, "::1", "a.test")
    assert certificate.parent == key.parent == directory
    assert ":" not in certificate.name
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" not in certificate.read_bytes()
    with pytest.raises(ValueError, match="at least one name"):
        wire.authority.issue(directory)
