"""Log-in with a JSON Web Token that another program of the operator has signed.

It is no part of the specification; clients and tools know it as org.matrix.login.jwt.
"""

from pathlib import Path
from typing import Any, Final

import orjson
from joserfc import errors as jose_errors
from joserfc import jwk, jwt

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.accounts.store.users import Account
from homeserver.config.login import Jwt
from homeserver.context import Context
from homeserver.login.elsewhere import account_of
from homeserver.login.register import new_user_id

TYPE: Final = "org.matrix.login.jwt"
_MAX_TOKEN: Final = 16 * 1024
_SKEW_S: Final = 30


class NotGood(Exception):  # noqa: N818 - reads as what happened
    """The token is not one that counts; the text says why not."""


async def log_in(ctx: Context, body: JsonObject) -> Account:
    """Whom the token is for. Raises: M_FORBIDDEN, and what `account_of` does."""
    config, token = ctx.config.jwt, body.get("token")
    if not config.algorithm:
        raise errors.unknown("This server has no such log-in type.")
    if not isinstance(token, str):
        raise errors.bad_json("token: a string is needed.")
    try:
        claims = read_token(config, token, ctx.clock.ms() // 1000)
    except NotGood as error:
        raise errors.forbidden(f"The token is not good: {error}.") from None
    name, shown = claims.get(config.localpart), claims.get(config.display_name)
    if not isinstance(name, str) or not name:
        raise errors.forbidden("The token does not say for whom it is.")
    return await account_of(
        ctx,
        new_user_id(name, ctx.server_name),
        sign_up=config.sign_up,
        display_name=shown if isinstance(shown, str) else "",
    )


def read_token(config: Jwt, token: str, now: int) -> dict[str, Any]:
    """The claims of a token that is signed as configured, and is of now.

    Raises: NotGood. As RFC 7519, 4.1 and RFC 8725 say.
    """
    if len(token) > _MAX_TOKEN:
        raise NotGood("it is too long")
    try:
        claims = jwt.decode(token, _key(config), _algorithms(config)).claims
    except jose_errors.JoseError as error:
        raise NotGood(error.error) from None
    except (ValueError, TypeError, OSError):
        raise NotGood("it cannot be read") from None
    for name, sign in (("exp", 1), ("nbf", -1), ("iat", -1)):
        at = claims.get(name, now)
        if type(at) not in (int, float) or sign * (at - now) < -_SKEW_S:
            raise NotGood(f"{name} is not of now")
    if config.issuer and claims.get("iss") != config.issuer:
        raise NotGood("iss is another")
    named = claims.get("aud", [])
    names = named if isinstance(named, list) else [named]
    is_ours = any(each in config.audiences for each in names)
    if not is_ours and (names or config.audiences):
        raise NotGood("aud is another")
    return dict(claims)


def _algorithms(config: Jwt) -> list[str]:
    """EdDSA has a new name for each curve (RFC 9864)."""
    if config.algorithm == "EdDSA":
        return ["EdDSA", "Ed25519"]
    return [config.algorithm]


def _key(config: Jwt) -> "jwk.Key | jwk.KeySet":
    """The key; a file may change while the server runs."""
    if config.algorithm.startswith("HS"):
        return jwk.OctKey.import_key(config.secret)
    data = Path(config.key_file).read_bytes()
    if data.lstrip().startswith(b"{"):
        return jwk.KeySet.import_key_set(orjson.loads(data))
    kinds = {"E": jwk.OKPKey if config.algorithm == "EdDSA" else jwk.ECKey}
    return kinds.get(config.algorithm[0], jwk.RSAKey).import_key(data)
