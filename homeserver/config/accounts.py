"""The sections about making accounts and reaching their owners."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from homeserver.config import checks

RegistrationMode: TypeAlias = Literal["closed", "token", "approval", "open"]


class Registration(Struct, frozen=True, kw_only=True):
    """Who may make an account."""

    mode: Annotated[
        RegistrationMode,
        Meta(
            description="closed: nobody but administrators; token: who has a"
            " registration token, or an invite link, which holds one; approval:"
            " everybody, but an administrator must approve the account before it can"
            " be used; open: everybody."
        ),
    ] = "closed"
    shared_secret: Annotated[
        str,
        Meta(
            description="Tools that know this secret may make accounts, administrators"
            " too, at /_synapse/admin/v1/register. Empty: nobody may."
        ),
    ] = ""
    guests: Annotated[
        bool,
        Meta(
            description="Whether anybody may come in as a guest, without an account:"
            " to read public rooms and to talk in those that admit guests."
        ),
    ] = False
    require_email: Annotated[
        bool,
        Meta(
            description="Whether an e-mail address is needed; needs [mail]. false: who"
            " wants to gives one."
        ),
    ] = False
    terms_url: Annotated[
        str,
        Meta(
            description="The terms of service that new users must accept. Empty: none.",
            extra={"check": checks.page_url},
        ),
    ] = ""
    privacy_url: Annotated[
        str,
        Meta(
            description="The privacy policy that new users must accept. Empty: none.",
            extra={"check": checks.page_url},
        ),
    ] = ""
    terms_version: Annotated[
        str, Meta(description="The version of these documents.", max_length=64)
    ] = "1.0"
    max_users: Annotated[
        int,
        Meta(
            ge=0,
            description="How many accounts there may be; guests and deactivated ones do"
            " not count. 0: no limit.",
        ),
    ] = 0


class Passwords(Struct, frozen=True, kw_only=True):
    """What a new password must be, and whether passwords are good for anything."""

    log_in: Annotated[
        bool,
        Meta(
            description="Whether people log in with passwords. false: only through"
            " providers, tokens and devices; nobody registers with a password either."
        ),
    ] = True
    min_length: Annotated[
        int, Meta(ge=1, le=128, description="The fewest characters it may have.")
    ] = 8
    require_letter: Annotated[bool, Meta(description="Whether it needs a letter.")] = (
        False
    )
    require_digit: Annotated[bool, Meta(description="Whether it needs a digit.")] = (
        False
    )
    require_symbol: Annotated[
        bool, Meta(description="Whether it needs what is neither letter nor digit.")
    ] = False


class Mail(Struct, frozen=True, kw_only=True):
    """The SMTP server through which e-mail is sent. Also needs public_base_url."""

    host: Annotated[
        str, Meta(description="Its name, such as mail.example.org. Empty: no e-mail.")
    ] = ""
    port: Annotated[
        int,
        Meta(ge=1, le=65535, description="587 for starttls, 465 for tls, as a rule."),
    ] = 587
    security: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(
            description="starttls: encryption is begun, or nothing is sent; tls: from"
            " the first byte; none: everything can be read on the way."
        ),
    ] = "starttls"
    user: Annotated[
        str, Meta(description="The name to log in with. Empty: no log-in.")
    ] = ""
    password: Annotated[str, Meta(description="The password to it.")] = ""
    sender: Annotated[
        str,
        Meta(
            description="From whom messages are, such as noreply@example.org.",
            extra={"check": checks.email},
        ),
    ] = ""
    sender_name: Annotated[
        str, Meta(description="The sender's name. Empty: the server's name.")
    ] = ""
    tls_ca_file: Annotated[
        str,
        Meta(
            description="The certificate authorities that may vouch for it, a PEM file."
            " Empty: the system's.",
            extra={"path": "file"},
        ),
    ] = ""
    timeout_s: Annotated[
        float, Meta(gt=0, le=120, description="How long it may take for an answer.")
    ] = 20.0

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if self.host and not self.sender:
            raise ValueError("`sender` is missing: an address that messages are from")
        if bool(self.user) != bool(self.password):
            missing = "password" if self.user else "user"
            raise ValueError(f"`{missing}` is missing: one goes with the other")


class Sms(Struct, frozen=True, kw_only=True):
    """A gateway that sends text messages, asked over HTTP."""

    url: Annotated[
        str,
        Meta(
            description="Where it takes messages. {number} and {text} are replaced,"
            " here and in body. Empty: no text messages, and no phone numbers."
        ),
    ] = ""
    method: Annotated[Literal["POST", "GET"], Meta(description="How it is asked.")] = (
        "POST"
    )
    body: Annotated[
        str,
        Meta(
            description="What is sent to it. {number} is like 491701234567; values are"
            " escaped as the content type needs."
        ),
    ] = '{"to": "+{number}", "text": "{text}"}'
    content_type: Annotated[
        Literal["application/json", "application/x-www-form-urlencoded"],
        Meta(description="What the body is."),
    ] = "application/json"
    password_header: Annotated[
        str,
        Meta(
            description='The header Authorization to send along, such as "Bearer …".'
            " Empty: none."
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if self.url and not self.url.startswith(("https://", "http://")):
            raise ValueError("`url` must begin with https:// or http://")


class Captcha(Struct, frozen=True, kw_only=True):
    """A captcha that people solve when they make an account."""

    kind: Annotated[
        Literal["none", "recaptcha", "hcaptcha", "turnstile"],
        Meta(description="Whose it is; none: people are asked nothing."),
    ] = "none"
    site_key: Annotated[str, Meta(description="The public key that you got.")] = ""
    secret: Annotated[str, Meta(description="The secret key that you got.")] = ""
    verify_url: Annotated[
        str,
        Meta(
            description="Where answers are checked. Empty: as its maker documents.",
            extra={"check": checks.page_url},
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if self.kind != "none" and not (self.site_key and self.secret):
            missing = "secret" if self.site_key else "site_key"
            raise ValueError(f"`{missing}` is missing: a captcha needs both")


class Threepids(Struct, frozen=True, kw_only=True):
    """E-mail addresses and phone numbers of accounts."""

    tell_if_known: Annotated[
        bool,
        Meta(
            description="Whether anybody is told that an address belongs to an account,"
            " or to none. false: only its owner learns that, from a message."
        ),
    ] = False
    next_link_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts to which a client may have people sent on at once when"
            " they have confirmed an address. Others are shown as a link.",
        ),
    ] = ()
    identity_servers: Annotated[
        tuple[str, ...],
        Meta(
            description="Identity servers that addresses may be bound at, such as"
            ' ["vector.im"]. Empty: any.',
            extra={"check": checks.server_names},
        ),
    ] = ()
