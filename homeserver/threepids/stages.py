"""The stages m.login.email.identity and m.login.msisdn.

Spec: client-server-api#email-based-identity--homeserver
Spec: client-server-api#phone-numbermsisdn-based-identity--homeserver
"""

from dataclasses import dataclass
from typing import Final

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.addresses import EMAIL, MSISDN
from homeserver.accounts.store import threepids
from homeserver.accounts.store.threepids import Threepid
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.clock import Clock
from homeserver.db.pool import Database
from homeserver.threepids import store
from homeserver.threepids.validation import Purpose, proven

EMAIL_STAGE: Final = "m.login.email.identity"
MSISDN_STAGE: Final = "m.login.msisdn"
STAGES: Final = {EMAIL_STAGE: EMAIL, MSISDN_STAGE: MSISDN}
# Where a session of authentication keeps what was proven; with its medium.
_PROVEN: Final = "threepid."


@dataclass(frozen=True, slots=True)
class ThreepidStage:
    """Checks that the client has shown an address of this medium to be its user's.

    `owner`: the account whose address it must be.
    """

    db: Database
    clock: Clock
    medium: str
    purpose: Purpose
    owner: UserId | None = None

    async def __call__(self, auth: JsonObject, session: UiaSession) -> bool:
        """Note the address in the session. Raises: M_THREEPID_AUTH_FAILED."""
        # COMPAT(clients of r0.5 and older): threepidCreds.
        creds = auth.get("threepid_creds", auth.get("threepidCreds"))
        if not isinstance(creds, dict):
            raise errors.bad_json("auth.threepid_creds: a JSON object is needed.")
        sid, secret = creds.get("sid"), creds.get("client_secret")
        if not isinstance(sid, str) or not isinstance(secret, str):
            raise errors.bad_json("auth.threepid_creds: sid and client_secret, please.")
        async with self.db.transaction() as tx:
            found = await proven(tx, self.purpose, sid, secret, self.clock.ms())
            if found is None or found.medium != self.medium:
                raise errors.threepid_auth_failed("The address is not confirmed yet.")
            if self.owner is not None and self.owner != await threepids.owner(
                tx, found.medium, found.address
            ):
                raise errors.threepid_auth_failed("This is the address of another.")
            if not await store.delete(tx, sid):
                raise errors.threepid_auth_failed("The address is not confirmed yet.")
        session.details[_PROVEN + self.medium] = {
            "address": found.address,
            "validated_ms": found.validated_ms,
        }
        # The proof is used up, so what it has proven must not be lost.
        return True


def proven_in(session: UiaSession, now_ms: int) -> list[Threepid]:
    """The addresses that were proven in the session."""
    found = []
    for medium in (EMAIL, MSISDN):
        kept = session.details.get(_PROVEN + medium)
        if isinstance(kept, dict):
            address, validated = kept.get("address"), kept.get("validated_ms")
            if isinstance(address, str) and isinstance(validated, int):
                found.append(Threepid(medium, address, validated, now_ms))
    return found
