"""The stage m.login.recaptcha: reCAPTCHA and those that are checked as it is.

Spec: client-server-api#google-recaptcha
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.config.accounts import Captcha
from homeserver.outgoing import read_answer

STAGE: Final = "m.login.recaptcha"
_SECONDS: Final = 15.0
_MAX_ANSWER: Final = 65_536
_MAX_RESPONSE: Final = 8192


@dataclass(frozen=True, slots=True)
class Maker:
    """What there is to know of a kind of captcha."""

    verify_url: str
    script: str
    widget: str  # the class of the element that becomes the captcha
    field: str  # where its answer stands in a form
    sources: str  # from where it loads what it needs


MAKERS: Final[Mapping[str, Maker]] = {
    "recaptcha": Maker(
        "https://www.google.com/recaptcha/api/siteverify",
        "https://www.google.com/recaptcha/api.js",
        "g-recaptcha",
        "g-recaptcha-response",
        "https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/",
    ),
    "hcaptcha": Maker(
        "https://api.hcaptcha.com/siteverify",
        "https://js.hcaptcha.com/1/api.js",
        "h-captcha",
        "h-captcha-response",
        "https://hcaptcha.com https://*.hcaptcha.com",
    ),
    "turnstile": Maker(
        "https://challenges.cloudflare.com/turnstile/v0/siteverify",
        "https://challenges.cloudflare.com/turnstile/v0/api.js",
        "cf-turnstile",
        "cf-turnstile-response",
        "https://challenges.cloudflare.com",
    ),
}


@dataclass(frozen=True, slots=True)
class CaptchaStage:
    """Checks an answer with the captcha's maker."""

    config: Captcha

    async def __call__(self, auth: JsonObject, _session: UiaSession) -> bool:
        """Check the answer. Raises: M_FORBIDDEN; 503, when nobody can say."""
        answer = auth.get("response")
        if not isinstance(answer, str) or not 0 < len(answer) <= _MAX_RESPONSE:
            raise errors.bad_json("auth.response: the captcha's answer is needed.")
        if not await self._is_right(answer):
            raise errors.forbidden("The captcha was not solved. Try again.")
        # An answer is good once, so that the stage must not be asked for again.
        return True

    async def _is_right(self, answer: str) -> bool:
        url = self.config.verify_url or MAKERS[self.config.kind].verify_url
        form = {"secret": self.config.secret, "response": answer}
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=_SECONDS)
                ) as session,
                session.post(url, data=form, allow_redirects=False) as reply,
            ):
                body: Any = orjson.loads(await read_answer(reply, _MAX_ANSWER))
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            raise errors.unavailable("The captcha cannot be checked now.") from None
        return isinstance(body, dict) and body.get("success") is True
