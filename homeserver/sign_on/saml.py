"""SAML 2.0, by pysaml2: the Web Browser SSO profile.

The provider's answer comes as a form from another site, with which browsers send no
cookie of ours. It is laid beside the request that it answers, and looked at when the
browser, sent on by us, comes for it.

References: SAML 2.0 Profiles, 4.1.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Final

from homeserver.config.sign_on import SamlProvider
from homeserver.sign_on import claims
from homeserver.sign_on.identity import Identity, NotIdentified
from homeserver.sign_on.oidc import NOT_ALLOWED
from homeserver.sign_on.providers import Rules, Sent

# Each runs xmlsec1, and waits for it.
_THREADS: Final = 2
_MAX_WAITING: Final = 32
_MAX_SUBJECT: Final = 255
# Where the form is kept until the browser comes for it.
RESPONSE: Final = "response"


class Saml:
    """One identity provider; `here` is our page for it."""

    def __init__(self, config: SamlProvider, here: str) -> None:
        self.config = config
        self.rules = Rules(
            name=config.name or config.id,
            sign_up=config.sign_up,
            choose_name=config.choose_name,
            link_by_email=config.link_by_email,
        )
        self._here = here
        self._made: Any = None
        self._threads = ThreadPoolExecutor(_THREADS, "saml")
        self._waiting = 0

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _client(self) -> Any:  # noqa: ANN401 - the library has no types
        """What reads the metadata, when somebody first comes."""
        # Not everybody has the library.
        if self._made is None:
            saml = import_module("saml2")
            settings = import_module("saml2.config").Config()
            settings.load(
                {
                    "entityid": f"{self._here}/metadata",
                    "metadata": {"local": [self.config.metadata_file]},
                    "accepted_time_diff": self.config.clock_skew_s,
                    "allow_unknown_attributes": True,
                    "service": {
                        "sp": {
                            "endpoints": {
                                "assertion_consumer_service": [
                                    (f"{self._here}/saml", saml.BINDING_HTTP_POST)
                                ]
                            },
                            "allow_unsolicited": False,
                            "authn_requests_signed": False,
                            "want_assertions_signed": True,
                            "want_response_signed": False,
                        }
                    },
                }
            )
            self._made = import_module("saml2.client").Saml2Client(config=settings)
        return self._made

    async def _in_thread(self, work: Any, *given: object) -> Any:  # noqa: ANN401 - of all kinds
        if self._waiting >= _MAX_WAITING:
            raise NotIdentified("too many come at once")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, work, *given
            )
        except NotIdentified:
            raise
        except Exception as error:  # noqa: BLE001 - the library raises what it likes
            raise NotIdentified(f"{type(error).__name__}: {error}") from None
        finally:
            self._waiting -= 1

    async def begin(self, back: str, state: str, *, fresh: bool) -> Sent:
        """Where to send a browser. Raises: NotIdentified."""
        sent: Sent = await self._in_thread(self._begin, back, state, fresh)
        return sent

    def _begin(self, _back: str, state: str, fresh: bool) -> Sent:  # noqa: FBT001 - by position, for the thread
        saml = import_module("saml2")
        more = {"force_authn": "true"} if fresh else {}
        request_id, told = self._client().prepare_for_authenticate(
            relay_state=state, binding=saml.BINDING_HTTP_REDIRECT, **more
        )
        return Sent(where=dict(told["headers"])["Location"], secrets={"id": request_id})

    async def identify(
        self, _answer: Mapping[str, str], back: str, secrets: Mapping[str, str]
    ) -> Identity:
        """Whom the form speaks of that was left for us. Raises: NotIdentified."""
        if not secrets.get(RESPONSE):
            raise NotIdentified("there is no response")
        subject, found = await self._in_thread(
            self._read, secrets[RESPONSE], secrets["id"], back
        )
        lacking = claims.lacking(self.config.required_attributes, found)
        if lacking:
            raise NotIdentified(f"{lacking} is not as required", told=NOT_ALLOWED)
        return Identity(
            provider=self.config.id,
            subject=subject,
            localpart=claims.localpart(self.config.localpart, found),
            display_name=claims.fill(self.config.display_name, found),
            email=claims.fill(self.config.email, found),
        )

    def _read(
        self, response: str, request_id: str, back: str
    ) -> tuple[str, dict[str, Any]]:
        """Signature, issuer, audience, times, and that it answers our request."""
        saml = import_module("saml2")
        read = self._client().parse_authn_request_response(
            response, saml.BINDING_HTTP_POST, outstanding={request_id: back}
        )
        if read is None or read.in_response_to != request_id:
            raise NotIdentified("it is the answer to something else")
        name = read.get_subject()
        subject = name.text.strip() if name is not None and name.text else ""
        transient = import_module("saml2.saml").NAMEID_FORMAT_TRANSIENT
        if not 0 < len(subject) <= _MAX_SUBJECT or name.format == transient:
            raise NotIdentified("it does not say who it is, for longer than today")
        return subject, dict(read.ava)

    async def metadata(self) -> bytes:
        """What the provider needs to know of us."""
        described: bytes = await self._in_thread(self._metadata)
        return described

    def _metadata(self) -> bytes:
        described = import_module("saml2.metadata").entity_descriptor(
            self._client().config
        )
        return str(described).encode()

    async def picture(self, _url: str) -> tuple[bytes, str]:
        """Raises: NotIdentified; assertions hold no pictures."""
        raise NotIdentified("there are no pictures")
