"""CAS: a ticket that the CAS server tells whom it is for.

Reference: CAS Protocol Specification 3.0, 2.1 and 2.8.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from homeserver.config.sign_on import CasProvider
from homeserver.sign_on import claims
from homeserver.sign_on.calls import Calls
from homeserver.sign_on.identity import Identity, NotIdentified
from homeserver.sign_on.oidc import NOT_ALLOWED
from homeserver.sign_on.providers import Rules, Sent

_NAMESPACE: Final = "{http://www.yale.edu/tp/cas}"
_MAX_TICKET: Final = 512
_MAX_SUBJECT: Final = 255


class Cas:
    """One CAS server."""

    def __init__(self, config: CasProvider, calls: Calls) -> None:
        self.config = config
        self.rules = Rules(
            name=config.name or config.id,
            sign_up=config.sign_up,
            choose_name=config.choose_name,
            link_by_email=config.link_by_email,
        )
        self._calls = calls

    async def begin(self, back: str, state: str, *, fresh: bool) -> Sent:
        """Where to send a browser. CAS has no state of its own: it is in `service`."""
        service = _service(back, state)
        asked = {"service": service, **({"renew": "true"} if fresh else {})}
        where = f"{self.config.url.rstrip('/')}/login?{urlencode(asked)}"
        return Sent(where=where, secrets=asked)

    async def identify(
        self, answer: Mapping[str, str], back: str, secrets: Mapping[str, str]
    ) -> Identity:
        """For whom the ticket is. Raises: NotIdentified."""
        ticket, service = answer.get("ticket", ""), secrets.get("service", "")
        if not 0 < len(ticket) <= _MAX_TICKET or not service.startswith(back):
            raise NotIdentified("there is no ticket")
        query = {"service": service, "ticket": ticket}
        if "renew" in secrets:
            query["renew"] = "true"
        status, body, _ = await self._calls.ask(
            f"{self.config.url.rstrip('/')}/p3/serviceValidate?{urlencode(query)}",
            headers={"Accept": "application/xml"},
        )
        if status != 200:
            raise NotIdentified(f"it answers {status}")
        user, found = read_answer(body)
        lacking = claims.lacking(self.config.required_attributes, found)
        if lacking:
            raise NotIdentified(f"{lacking} is not as required", told=NOT_ALLOWED)
        return Identity(
            provider=self.config.id,
            subject=user,
            localpart=claims.localpart(self.config.localpart, found),
            display_name=claims.fill(self.config.display_name, found),
            email=claims.fill(self.config.email, found),
        )

    async def picture(self, url: str) -> tuple[bytes, str]:
        """A picture and its content type. Raises: NotIdentified."""
        return await self._calls.ask_file(url)


def _service(back: str, state: str) -> str:
    return f"{back}?{urlencode({'state': state})}"


def read_answer(body: bytes) -> tuple[str, dict[str, Any]]:
    """Who it is there, and what is known of them. Raises: NotIdentified."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise NotIdentified("it answers with a document type")
    try:
        root = ET.fromstring(body)  # noqa: S314 - entities cannot be declared
    except (ET.ParseError, ValueError, LookupError):
        raise NotIdentified("its answer cannot be read") from None
    if root.tag != f"{_NAMESPACE}serviceResponse":
        raise NotIdentified("its answer is another")
    success = root.find(f"{_NAMESPACE}authenticationSuccess")
    failure = root.find(f"{_NAMESPACE}authenticationFailure")
    if success is None or failure is not None:
        code = failure.get("code", "") if failure is not None else ""
        raise NotIdentified(f"it says no: {code[:100]!r}")
    user = (success.findtext(f"{_NAMESPACE}user") or "").strip()
    if not 0 < len(user) <= _MAX_SUBJECT:
        raise NotIdentified("it does not say who it is")
    found: dict[str, Any] = {}
    for each in success.find(f"{_NAMESPACE}attributes") or ():
        name = each.tag.removeprefix(_NAMESPACE)
        found.setdefault(name, []).append((each.text or "").strip())
    return user, {**found, "user": user}
