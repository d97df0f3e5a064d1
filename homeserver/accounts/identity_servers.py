"""Identity servers, as we speak to them for our users.

The calls are those of the identity service API, "Establishing associations".
"""

from dataclasses import dataclass
from typing import Final, Self

import aiohttp
import orjson

from federation import canonical_json, x_matrix
from federation.canonical_json import JsonObject
from federation.errors import Malformed
from federation.ids import ServerName, UserId, parse_server_name
from federation.signatures import SigningKey
from homeserver import errors
from homeserver.accounts.store.threepids import Binding
from homeserver.config import Config
from homeserver.outgoing import guarded_session, read_answer

_BIND: Final = "/_matrix/identity/v2/3pid/bind"
_UNBIND: Final = "/_matrix/identity/v2/3pid/unbind"
_SECONDS: Final = 20.0
_CONNECT_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 65_536
_CONNECTIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client has from an identity server for a validated address."""

    id_server: ServerName
    id_access_token: str
    sid: str
    client_secret: str


class IdentityServers:
    """The connections to them; `async with` opens and closes these."""

    def __init__(self, config: Config, key: SigningKey) -> None:
        self._config = config
        self._key = key
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = guarded_session(
            self._config,
            seconds=_SECONDS,
            connect_seconds=_CONNECT_SECONDS,
            connections=_CONNECTIONS,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def check(self, name: str) -> ServerName:
        """The identity server of that name. Raises: M_SERVER_NOT_TRUSTED."""
        allowed = self._config.threepids.identity_servers
        try:
            parsed = parse_server_name(name)
        except Malformed:
            raise errors.invalid_param("id_server: a host name is needed.") from None
        if allowed and parsed not in allowed:
            raise errors.server_not_trusted(f"{name} is not trusted by this server.")
        return parsed

    async def bind(self, user_id: UserId, creds: Credentials) -> Binding:
        """Bind a validated address to the user. Raises: what the server says."""
        body: JsonObject = {
            "sid": creds.sid,
            "client_secret": creds.client_secret,
            "mxid": user_id,
        }
        status, answer = await self._ask(
            creds.id_server, _BIND, body, f"Bearer {creds.id_access_token}"
        )
        if status != 200:
            raise _refusal(status, answer)
        medium, address = answer.get("medium"), answer.get("address")
        if not isinstance(medium, str) or not isinstance(address, str):
            raise errors.bad_gateway("The identity server does not say what it bound.")
        return Binding(medium[:64], address[:512], creds.id_server)

    async def unbind(self, user_id: UserId, binding: Binding) -> bool:
        """Remove an association; False: the server does not do that, or not now."""
        body: JsonObject = {
            "mxid": user_id,
            "threepid": {"medium": binding.medium, "address": binding.address},
        }
        id_server = ServerName(binding.id_server)
        signed = x_matrix.sign(
            "POST",
            _UNBIND,
            self._config.server_name,
            id_server,
            canonical_json.encode(body),
            self._key,
        )
        try:
            status, _ = await self._ask(id_server, _UNBIND, body, signed.header)
        except errors.MatrixError:
            return False
        return status == 200

    async def _ask(
        self, id_server: ServerName, path: str, body: JsonObject, authorization: str
    ) -> tuple[int, JsonObject]:
        """The answer's status and body. Raises: 502."""
        try:
            async with self._session.post(
                f"https://{id_server}{path}",
                data=orjson.dumps(body),
                headers={
                    "Authorization": authorization,
                    "Content-Type": "application/json",
                },
                allow_redirects=False,
            ) as response:
                parsed = orjson.loads(await read_answer(response, _MAX_ANSWER))
                return response.status, parsed if isinstance(parsed, dict) else {}
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            raise errors.bad_gateway("The identity server does not answer.") from None


def _refusal(status: int, answer: JsonObject) -> errors.MatrixError:
    """The identity server's error, for the client: "simply proxy any errors"."""
    errcode, text = answer.get("errcode"), answer.get("error")
    if not isinstance(errcode, str) or not 400 <= status < 500:
        return errors.bad_gateway("The identity server refused.")
    # 401 would say to the client that it is logged out here.
    shown = 403 if status == 401 else status
    return errors.MatrixError(
        shown, errcode[:255], text[:1000] if isinstance(text, str) else "Refused."
    )
