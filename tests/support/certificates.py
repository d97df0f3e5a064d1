"""The throw-away certificate authority of the product's demo, for tests."""

from homeserver.demo.certificates import CertificateAuthority

__all__ = ["CertificateAuthority"]
