"""A browser, known by its cookie, and the forms that it sends.

Laws. The cookie holds 256 random bits from the first page on; whoever logs in gets
another one, so that a cookie planted before is worth nothing after. A form counts only
with the token that is made from the cookie (which no other site can read), and when
the browser does not say that another site sent it.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from homeserver import errors
from homeserver.config import Config
from homeserver.http.requests import Request
from homeserver.pages.languages import Language, preferred

COOKIE: Final = "hearth"
CSRF: Final = "csrf"
MAX_FIELDS: Final = 50
MAX_VALUE: Final = 8192
_BYTES: Final = 32
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_OWN_SITES: Final = ("same-origin", "none")


@dataclass(slots=True)
class Visitor:
    """Who looks at a page; `is_new` until the browser has the cookie."""

    secret: str
    is_new: bool
    is_secure: bool
    say: Language

    @property
    def csrf(self) -> str:
        """What this browser's forms must bring along."""
        return hmac.new(self.secret.encode(), b"csrf", hashlib.sha256).hexdigest()

    def seal(self, text: str) -> str:
        """What shows that a link with this text was on a page that we showed them."""
        key = self.secret.encode()
        return hmac.new(key, f"seal {text}".encode(), hashlib.sha256).hexdigest()

    def is_sealed(self, text: str, seal: str) -> bool:
        """Whether it was."""
        given = seal.encode("utf-8", "replace")
        return not self.is_new and hmac.compare_digest(self.seal(text).encode(), given)

    @property
    def hash(self) -> bytes:
        """What is stored of the cookie."""
        return hashlib.sha256(self.secret.encode()).digest()

    def renew(self) -> None:
        """Give the browser another cookie, as whoever logs in gets."""
        self.secret, self.is_new = secrets.token_urlsafe(_BYTES), True

    def cookie(self) -> str:
        """The value of `Set-Cookie`."""
        more = "; Secure" if self.is_secure else ""
        name = _name(is_secure=self.is_secure)
        return f"{name}={self.secret}; Path=/; HttpOnly; SameSite=Lax{more}"


def _name(*, is_secure: bool) -> str:
    # With this prefix no subdomain can plant the cookie.
    return f"__Host-{COOKIE}" if is_secure else COOKIE


def visitor_of(config: Config, request: Request) -> Visitor:
    """The browser that asks."""
    is_secure = config.public_base_url.startswith("https:")
    secret = request.raw.cookies.get(_name(is_secure=is_secure), "")
    is_new = not _SECRET.fullmatch(secret)
    if is_new:
        secret = secrets.token_urlsafe(_BYTES)
    say = preferred(request.headers.get("Accept-Language", ""))
    return Visitor(secret, is_new, is_secure, say)


# ── Forms ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Form:
    """What was filled in; what was not there is empty."""

    fields: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")


def parse_form(request: Request, *, most: int = MAX_VALUE) -> Form:
    """The form in a request's body, of whomever. Raises: M_INVALID_PARAM.

    `most`: how long a value may be.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise errors.invalid_param("A form is needed.")
    try:
        pairs = parse_qsl(
            request.body_bytes.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise errors.invalid_param("The form cannot be read.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        # RFC 6749, 3.1: "parameters MUST NOT be included more than once"
        raise errors.invalid_param("A field stands in the form twice.")
    if any("\0" in value or len(value) > most for value in fields.values()):
        raise errors.invalid_param("The form cannot be read.")
    return Form(fields)


def read_form(config: Config, request: Request, visitor: Visitor) -> Form:
    """The form that this visitor sent from a page of ours.

    Raises: M_FORBIDDEN, when it may come from somewhere else; M_INVALID_PARAM.
    """
    form = parse_form(request)
    is_theirs = hmac.compare_digest(
        form[CSRF].encode("utf-8", "replace"), visitor.csrf.encode()
    )
    if visitor.is_new or not is_theirs or not _is_from_here(config, request):
        raise errors.forbidden(
            "This form is out of date, or your browser keeps no cookies."
            " Go back, reload the page, and try again."
        )
    return form


def _is_from_here(config: Config, request: Request) -> bool:
    """False when the browser says that a page of somebody else sent the form."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in _OWN_SITES
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    own = {request.headers.get("Host"), urlsplit(config.public_base_url).netloc}
    return urlsplit(origin).netloc in own - {None, ""}
