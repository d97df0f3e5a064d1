"""The stage m.login.terms: new users accept documents.

Spec: client-server-api#terms-of-service-at-registration
"""

from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.config.accounts import Registration

STAGE: Final = "m.login.terms"
# Where a session keeps the version that was accepted.
ACCEPTED: Final = "terms"


def policies(config: Registration) -> JsonObject:
    """The documents, for `params`; empty: there are none."""
    found: JsonObject = {}
    for name, url, english, german in (
        (
            "terms_of_service",
            config.terms_url,
            "Terms of service",
            "Nutzungsbedingungen",
        ),
        (
            "privacy_policy",
            config.privacy_url,
            "Privacy policy",
            "Datenschutzerklärung",
        ),
    ):
        if url:
            found[name] = {
                "version": config.terms_version,
                "en": {"name": english, "url": url},
                "de": {"name": german, "url": url},
            }
    return found


@dataclass(frozen=True, slots=True)
class TermsStage:
    """Takes the documents as accepted, and notes which version that was."""

    config: Registration

    async def __call__(self, _auth: JsonObject, session: UiaSession) -> bool:
        """Note it."""
        session.details[ACCEPTED] = self.config.terms_version
        return False
