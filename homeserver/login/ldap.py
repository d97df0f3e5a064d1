"""An LDAP directory that knows people's passwords.

It is asked in threads, as its library waits for answers, and by few at once. A bind
with an empty password succeeds and shows nothing (RFC 4513, 5.1.2), so none is tried;
names are escaped wherever they go into a name or a filter (RFC 4514, RFC 4515).
"""

import asyncio
import math
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Self

import structlog

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.addresses import EMAIL, canonical_email
from homeserver.accounts.store import threepids
from homeserver.accounts.store.threepids import Threepid
from homeserver.config.login import Ldap
from homeserver.context import Context
from homeserver.errors import MatrixError
from homeserver.login.elsewhere import account_of

log = structlog.get_logger(__name__)

_THREADS: Final = 4
_MAX_WAITING: Final = 64
_INVALID_CREDENTIALS: Final = 49  # RFC 4511, A.1
_ANYTHING: Final = "(objectClass=*)"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose password was right; what is not known is empty."""

    display_name: str
    email: str


class _UnreachableError(Exception):
    """The directory does not answer, or not as it should."""


class Directory:
    """The directory, and the threads that wait for it."""

    def __init__(self, ctx: Context) -> None:
        # Not everybody has it installed.
        self._ldap: Any = import_module("ldap3")
        self._escape_dn: Any = import_module("ldap3.utils.dn").escape_rdn
        self._escape: Any = import_module("ldap3.utils.conv").escape_filter_chars
        self._failures = import_module("ldap3.core.exceptions").LDAPException
        self._ctx = ctx
        self._config: Ldap = ctx.config.ldap
        self._threads = ThreadPoolExecutor(_THREADS, "ldap")
        self._waiting = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def knows(self, user_id: UserId, password: str) -> bool:
        """Whether it is the password of that person there, who then has an account.

        Raises: 503, when nobody can say; what `account_of` does.
        """
        if not password or "\0" in password:
            return False
        if self._waiting >= _MAX_WAITING:
            raise errors.overloaded()
        localpart = user_id[1:].partition(":")[0]
        self._waiting += 1
        try:
            person = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._ask, localpart, password
            )
        except _UnreachableError as error:
            log.warning("the LDAP directory cannot be asked", why=str(error))
            raise errors.unavailable("Passwords cannot be checked now.") from None
        finally:
            self._waiting -= 1
        if person is None:
            return False
        await account_of(
            self._ctx,
            user_id,
            sign_up=self._config.sign_up,
            display_name=person.display_name,
            address=await self._address(person.email),
        )
        return True

    async def _address(self, email: str) -> Threepid | None:
        """The person's address, if it is one and nobody's yet."""
        try:
            address = canonical_email(email)
        except MatrixError:
            return None
        async with self._ctx.db.read() as tx:
            if await threepids.owner(tx, EMAIL, address) is not None:
                return None
        now = self._ctx.clock.ms()
        return Threepid(EMAIL, address, now, now)

    # ── In a thread ──────────────────────────────────────────────────────────────

    def _ask(self, localpart: str, password: str) -> Person | None:
        """The person, if the password is right. Raises: _UnreachableError."""
        try:
            if self._config.bind_dn:
                return self._search_bind(localpart, password)
            return self._simple_bind(localpart, password)
        except (self._failures, OSError) as error:
            raise _UnreachableError(f"{type(error).__name__}: {error}") from None

    def _simple_bind(self, localpart: str, password: str) -> Person | None:
        config = self._config
        name = self._escape_dn(localpart)
        entry_dn = f"{config.uid}={name},{config.base}"
        connection = self._bound(entry_dn, password)
        if connection is None:
            return None
        try:
            return _one(self._found(connection, entry_dn, _ANYTHING, self._ldap.BASE))[
                1
            ]
        finally:
            connection.unbind()

    def _search_bind(self, localpart: str, password: str) -> Person | None:
        config = self._config
        connection = self._bound(config.bind_dn, config.bind_password)
        if connection is None:
            raise _UnreachableError("bind_dn or bind_password are wrong")
        name = self._escape(localpart)
        wanted = f"(&({config.uid}={name}){config.filter})"
        try:
            found = self._found(connection, config.base, wanted, self._ldap.SUBTREE)
        finally:
            connection.unbind()
        if len(found) != 1:  # of two with one name, nobody knows which it is
            return None
        entry_dn, person = _one(found)
        own = self._bound(entry_dn, password)
        if own is None:
            return None
        own.unbind()
        return person

    def _bound(self, entry_dn: str, password: str) -> Any:  # noqa: ANN401 - the library has no types
        """A connection of that entry; None, when the password is wrong."""
        config = self._config
        server = self._ldap.Server(
            config.uri,
            tls=self._ldap.Tls(
                validate=ssl.CERT_REQUIRED, ca_certs_file=config.tls_ca_file or None
            ),
            connect_timeout=config.timeout_s,
            get_info=self._ldap.NONE,
        )
        connection = self._ldap.Connection(
            server,
            user=entry_dn,
            password=password,
            receive_timeout=math.ceil(config.timeout_s),
            read_only=True,
            auto_referrals=False,
        )
        connection.open()
        if config.start_tls and not connection.start_tls():
            connection.unbind()
            raise _UnreachableError("it begins no TLS")
        if connection.bind():
            return connection
        code, said = connection.result["result"], connection.result["description"]
        connection.unbind()
        if code != _INVALID_CREDENTIALS:
            raise _UnreachableError(f"bind: {said}")
        return None

    def _found(
        self,
        connection: Any,  # noqa: ANN401 - the library has no types
        base: str,
        wanted: str,
        scope: str,
    ) -> list[tuple[str, Person]]:
        config = self._config
        names = [each for each in (config.display_name, config.email) if each]
        connection.search(
            base,
            wanted,
            search_scope=scope,
            attributes=names or [self._ldap.NO_ATTRIBUTES],
            size_limit=2,
        )
        return [
            (
                each["dn"],
                Person(_first(each, config.display_name), _first(each, config.email)),
            )
            for each in connection.response or ()
            if each["type"] == "searchResEntry"
        ]


def _one(found: list[tuple[str, Person]]) -> tuple[str, Person]:
    """The entry; one that may not read itself is somebody all the same."""
    return found[0] if found else ("", Person("", ""))


def _first(entry: Mapping[str, Any], name: str) -> str:
    values = entry["raw_attributes"].get(name, []) if name else []
    return values[0].decode("utf-8", "replace").replace("\0", "") if values else ""
