"""OpenID Connect: discovery, the code flow, and ID tokens.

References: OpenID Connect Core 1.0 (3.1), Discovery 1.0, RFC 7636 (PKCE), RFC 9207
(who answers), RFC 7523 (private_key_jwt).
"""

import base64
import hashlib
import secrets as chance
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeGuard
from urllib.parse import quote_plus, urlencode

from joserfc import jwk, jwt

from homeserver.clock import Clock
from homeserver.config.sign_on import OidcProvider
from homeserver.sign_on import claims
from homeserver.sign_on.calls import Calls, parse_object
from homeserver.sign_on.identity import Identity, NotIdentified
from homeserver.sign_on.keys import Keys, private_key
from homeserver.sign_on.providers import Rules, Sent

_METADATA_S: Final = 3600.0
_ASSERTION_S: Final = 60
_MAX_SUBJECT: Final = 255
_MAX_SID: Final = 255
_SECRET_BYTES: Final = 32
_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# What people are told who may not come in.
NOT_ALLOWED: Final = "Your account there may not be used here."
REFUSED: Final = "The other side did not log you in."


class Oidc:
    """One provider."""

    def __init__(self, config: OidcProvider, calls: Calls, clock: Clock) -> None:
        self.config = config
        self.rules = Rules(
            name=config.name or config.id,
            sign_up=config.sign_up,
            choose_name=config.choose_name,
            link_by_email=config.link_by_email,
            on_logout=config.on_logout,
        )
        self._calls = calls
        self._clock = clock
        self._metadata: dict[str, Any] | None = None
        self._known_at = float("-inf")
        self._keys = Keys(clock, self._fetch_keys)

    # ── Discovery ────────────────────────────────────────────────────────────────

    async def _discover(self) -> dict[str, Any]:
        now = self._clock.monotonic()
        if self._metadata is not None and now - self._known_at < _METADATA_S:
            return self._metadata
        issuer = self.config.issuer
        found = await self._calls.ask_json(
            f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        )
        if found.get("issuer") != issuer:
            raise NotIdentified(
                f"it calls itself {found.get('issuer')!r}, not {issuer}"
            )
        self._metadata, self._known_at = found, now
        return found

    async def _endpoint(self, name: str) -> str:
        found = (await self._discover()).get(name)
        if not isinstance(found, str):
            raise NotIdentified(f"its metadata lack {name}")
        return found

    async def _fetch_keys(self) -> Mapping[str, Any]:
        return await self._calls.ask_json(await self._endpoint("jwks_uri"))

    # ── The code flow ────────────────────────────────────────────────────────────

    async def begin(self, back: str, state: str, *, fresh: bool) -> Sent:
        """Where to send a browser. Raises: NotIdentified."""
        endpoint = await self._endpoint("authorization_endpoint")
        kept = {"nonce": chance.token_urlsafe(_SECRET_BYTES)}
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": back,
            "scope": " ".join(self.config.scopes),
            "state": state,
            "nonce": kept["nonce"],
        }
        if self.config.pkce:
            kept["verifier"] = chance.token_urlsafe(_SECRET_BYTES)
            query["code_challenge"] = _challenge(kept["verifier"])
            query["code_challenge_method"] = "S256"
        if fresh:
            query["prompt"] = "login"
            kept["after"] = str(self._now())
        sign = "&" if "?" in endpoint else "?"
        return Sent(where=f"{endpoint}{sign}{urlencode(query)}", secrets=kept)

    async def identify(
        self, answer: Mapping[str, str], back: str, secrets: Mapping[str, str]
    ) -> Identity:
        """Who has come back with a code. Raises: NotIdentified."""
        await self._check_who_answers(answer)
        if "error" in answer:
            raise NotIdentified(f"it says {answer['error'][:100]!r}", told=REFUSED)
        if not answer.get("code"):
            raise NotIdentified("there is no code")
        tokens = await self._trade(answer["code"], back, secrets)
        if not isinstance(tokens.get("id_token"), str):
            raise NotIdentified("there is no ID token")
        _, found = await self._keys.verify(tokens["id_token"])
        self.check_claims(found)
        self._check_fits(found, secrets)
        if self.config.user_info:
            found = {**await self._user_info(tokens, found["sub"]), **found}
        return self._identity(found)

    async def _check_who_answers(self, answer: Mapping[str, str]) -> None:
        """RFC 9207: an answer of one provider is not taken for another's."""
        metadata = await self._discover()
        says = metadata.get("authorization_response_iss_parameter_supported") is True
        given = answer.get("iss")
        if given != self.config.issuer and (says or given is not None):
            raise NotIdentified("the answer is of another provider")

    async def _trade(
        self, code: str, back: str, secrets: Mapping[str, str]
    ) -> dict[str, Any]:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
        if "verifier" in secrets:
            form["code_verifier"] = secrets["verifier"]
        headers: dict[str, str] = {}
        config = self.config
        match config.client_auth:
            case "client_secret_basic":
                # RFC 6749, 2.3.1: both are form-encoded first.
                pair = (
                    f"{quote_plus(config.client_id)}:{quote_plus(config.client_secret)}"
                )
                said = base64.b64encode(pair.encode()).decode()
                headers["Authorization"] = f"Basic {said}"
            case "client_secret_post":
                form["client_id"] = config.client_id
                form["client_secret"] = config.client_secret
            case "private_key_jwt":
                form["client_id"] = config.client_id
                form["client_assertion_type"] = _JWT_BEARER
                form["client_assertion"] = self._assertion()
            case "none":
                form["client_id"] = config.client_id
        endpoint = await self._endpoint("token_endpoint")
        return await self._calls.ask_json(endpoint, form=form, headers=headers)

    def _assertion(self) -> str:
        """Shows who we are, for a minute and once."""
        key = private_key(Path(self.config.private_key))
        header = {"alg": "RS256" if isinstance(key, jwk.RSAKey) else "ES256"}
        if self.config.private_key_id:
            header["kid"] = self.config.private_key_id
        now = self._now()
        said = {
            "iss": self.config.client_id,
            "sub": self.config.client_id,
            "aud": self.config.issuer,
            "jti": chance.token_urlsafe(_SECRET_BYTES),
            "iat": now,
            "exp": now + _ASSERTION_S,
        }
        return jwt.encode(header, said, key)

    async def _user_info(
        self, tokens: Mapping[str, Any], subject: object
    ) -> dict[str, Any]:
        token = tokens.get("access_token")
        if not isinstance(token, str):
            raise NotIdentified("there is no access token")
        status, body, kind = await self._calls.ask(
            await self._endpoint("userinfo_endpoint"),
            headers={"Authorization": f"Bearer {token}"},
        )
        found: dict[str, Any] | None = None
        if status == 200 and kind == "application/jwt":
            _, found = await self._keys.verify(body.decode("utf-8", "replace"))
        elif status == 200:
            found = parse_object(body)
        # Core, 5.3.2: "the sub Claim in the UserInfo Response MUST be verified"
        if found is None or found.get("sub") != subject:
            raise NotIdentified("userinfo is of somebody else, or cannot be read")
        return found

    async def picture(self, url: str) -> tuple[bytes, str]:
        """A picture and its content type. Raises: NotIdentified."""
        return await self._calls.ask_file(url)

    # ── What tokens say ──────────────────────────────────────────────────────────

    async def verify(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of a token of its. Raises: NotIdentified."""
        return await self._keys.verify(token)

    def check_claims(self, found: Mapping[str, Any], *, needs_sub: bool = True) -> None:
        """Whether a token is of this provider, for us, and of now.

        Core, 3.1.3.7. Raises: NotIdentified.
        """
        now, skew = self._now(), self.config.clock_skew_s
        audience = found.get("aud")
        names = audience if isinstance(audience, list) else [audience]
        if found.get("iss") != self.config.issuer:
            raise NotIdentified("the token is of another issuer")
        if self.config.client_id not in names:
            raise NotIdentified("the token is for somebody else")
        by = found.get("azp")
        if by != self.config.client_id and (len(names) > 1 or by is not None):
            raise NotIdentified("the token was given to somebody else")
        ends, begins = found.get("exp"), found.get("iat")
        if not _is_time(ends) or ends <= now - skew:
            raise NotIdentified("the token has run out")
        if not _is_time(begins) or begins > now + skew:
            raise NotIdentified("the token is of the future")
        subject = found.get("sub")
        if needs_sub or subject is not None:
            _check_text("sub", subject, _MAX_SUBJECT)

    def _check_fits(self, found: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """Whether it is the answer to what was asked. Raises: NotIdentified."""
        nonce = found.get("nonce")
        if not isinstance(nonce, str) or not chance.compare_digest(
            nonce.encode("utf-8", "replace"), secrets["nonce"].encode()
        ):
            raise NotIdentified("the token is the answer to something else")
        at = found.get("auth_time")
        if "after" in secrets and _is_time(at):
            earliest = int(secrets["after"]) - self.config.clock_skew_s
            if at < earliest:
                raise NotIdentified("nobody has logged in anew")

    def _identity(self, found: Mapping[str, Any]) -> Identity:
        config = self.config
        lacking = claims.lacking(config.required_claims, found)
        if lacking:
            raise NotIdentified(f"{lacking} is not as required", told=NOT_ALLOWED)
        sid = found.get("sid", "")
        is_confirmed = found.get("email_verified") in (True, "true")
        return Identity(
            provider=config.id,
            subject=found["sub"],
            sid=sid if isinstance(sid, str) and len(sid) <= _MAX_SID else "",
            localpart=claims.localpart(config.localpart, found),
            display_name=claims.fill(config.display_name, found),
            email=claims.fill(config.email, found) if is_confirmed else "",
            avatar=claims.fill(config.avatar, found),
        )

    def _now(self) -> int:
        return self._clock.ms() // 1000


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_text(name: str, value: object, most: int) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= most or "\0" in value:
        raise NotIdentified(f"{name} cannot be one")
