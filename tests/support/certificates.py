"""The throw-away certificate authority of the product's demo, for tests."""

import tempfile
from functools import cache
from pathlib import Path

from homeserver.demo.certificates import CertificateAuthority

__all__ = ["CertificateAuthority", "the_authority", "the_ca_file"]


@cache
def the_authority() -> CertificateAuthority:
    """One for all servers of a test process: to trust one more takes a while."""
    return CertificateAuthority.create()


@cache
def the_ca_file() -> Path:
    """Its certificate; the file is gone with the process."""
    return the_authority().write_ca(Path(_directory().name) / "ca.pem")


@cache
def _directory() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="hearth-test-ca-")
