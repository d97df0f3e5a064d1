"""What a request is answered with when it cannot be done: one constructor per errcode.

The text is shown to people: it says what is wrong and what to do. Causes (exceptions,
rows, addresses) are logged, never sent.

Spec: client-server-api#standard-error-response
"""

from collections.abc import Mapping

from federation.canonical_json import JsonObject, JsonValue
from federation.errors import BadSignature, ProtocolError, Rejected, TooLarge


class MatrixError(Exception):
    """A standard error response; `safe_message` may be shown to anybody.

    Further keyword arguments become further properties of the response. `headers` are
    HTTP headers to send along.
    """

    def __init__(
        self,
        status: int,
        errcode: str,
        safe_message: str,
        /,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: JsonValue,
    ) -> None:
        super().__init__(f"{status} {errcode}: {safe_message}")
        self.status = status
        self.errcode = errcode
        self.safe_message = safe_message
        self.headers: Mapping[str, str] = headers or {}
        self.extra = extra

    def body(self) -> JsonObject:
        """The JSON object of the response."""
        return {"errcode": self.errcode, "error": self.safe_message, **self.extra}


# ── The request as such ──────────────────────────────────────────────────────────────


def not_json(message: str = "The body must be valid JSON in UTF-8.") -> MatrixError:
    """The body is not JSON."""
    return MatrixError(400, "M_NOT_JSON", message)


def bad_json(message: str) -> MatrixError:
    """The body is JSON, but keys are missing or values have the wrong type."""
    return MatrixError(400, "M_BAD_JSON", message)


def missing_param(message: str) -> MatrixError:
    """A required parameter is not there."""
    return MatrixError(400, "M_MISSING_PARAM", message)


def invalid_param(message: str) -> MatrixError:
    """A parameter has a value that it cannot have."""
    return MatrixError(400, "M_INVALID_PARAM", message)


def unknown_pos() -> MatrixError:
    """The token is none of this connection's, or no longer: begin anew. MSC4186."""
    return MatrixError(
        400, "M_UNKNOWN_POS", "This connection has expired; begin a new one."
    )


def too_large(message: str = "The request is too large.") -> MatrixError:
    """The request, or what it would make, exceeds a limit."""
    return MatrixError(413, "M_TOO_LARGE", message)


def unrecognized(
    message: str = "This server has no such endpoint.",
) -> MatrixError:
    """No such endpoint."""
    return MatrixError(404, "M_UNRECOGNIZED", message)


def wrong_method(allowed: str) -> MatrixError:
    """The endpoint exists, with other methods. `allowed` lists them, with commas."""
    return MatrixError(
        405,
        "M_UNRECOGNIZED",
        f"This endpoint answers only to {allowed}.",
        headers={"Allow": allowed},
    )


def limit_exceeded(retry_after_ms: int) -> MatrixError:
    """Too many requests. Spec: client-server-api#rate-limiting."""
    seconds = max(1, -(-retry_after_ms // 1000))
    return MatrixError(
        429,
        "M_LIMIT_EXCEEDED",
        f"Too many requests. Try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
        retry_after_ms=retry_after_ms,
    )


def resource_limit_exceeded(message: str, admin_contact: str) -> MatrixError:
    """The server has reached a limit that its administrator set."""
    return MatrixError(
        403, "M_RESOURCE_LIMIT_EXCEEDED", message, admin_contact=admin_contact
    )


def quota_exceeded(used: int, limit: int, more: int) -> MatrixError:
    """A user's files would take up more than they may; all numbers are bytes."""
    return MatrixError(
        403,
        "M_FORBIDDEN",
        f"Your files take up {used} of {limit} bytes, and this one has {more}.",
        used_bytes=used,
        limit_bytes=limit,
    )


def overloaded() -> MatrixError:
    """More requests are under way than the server takes at once."""
    return MatrixError(
        503,
        "M_UNKNOWN",
        "The server is busy. Try again in a moment.",
        headers={"Retry-After": "1"},
    )


def unavailable(
    message: str = "The server cannot answer just now. Try again in a moment.",
) -> MatrixError:
    """Something that the server needs, such as its database, is away for a time."""
    return MatrixError(503, "M_UNKNOWN", message, headers={"Retry-After": "5"})


def unknown(message: str, *, status: int = 400) -> MatrixError:
    """Anything without an errcode of its own."""
    return MatrixError(status, "M_UNKNOWN", message)


def internal() -> MatrixError:
    """A mistake of ours, about which the caller learns nothing."""
    return MatrixError(500, "M_UNKNOWN", "Something went wrong in the server.")


# ── Who asks ─────────────────────────────────────────────────────────────────────────


def missing_token() -> MatrixError:
    """No access token. Spec: client-server-api#using-access-tokens."""
    return MatrixError(
        401, "M_MISSING_TOKEN", "Send your access token: 'Authorization: Bearer …'."
    )


def unknown_token(
    message: str = "The access token is not known. Log in again.",
    *,
    soft_logout: bool = False,
) -> MatrixError:
    """The token is not, or no longer, valid. Spec: client-server-api#soft-logout."""
    if soft_logout:
        return MatrixError(401, "M_UNKNOWN_TOKEN", message, soft_logout=True)
    return MatrixError(401, "M_UNKNOWN_TOKEN", message)


def unauthorized(message: str, *, status: int = 401) -> MatrixError:
    """The request was not correctly authorised; of servers, a bad signature."""
    return MatrixError(status, "M_UNAUTHORIZED", message)


def forbidden(message: str) -> MatrixError:
    """The caller may not do this."""
    return MatrixError(403, "M_FORBIDDEN", message)


def not_found(message: str) -> MatrixError:
    """There is no such thing, or the caller may not learn of it."""
    return MatrixError(404, "M_NOT_FOUND", message)


def unredacted_content(*, was_deleted: bool) -> MatrixError:
    """A redacted event's content is not here: deleted, or never received. MSC2815."""
    if was_deleted:
        code, text = "DELETED", "The content has been deleted on its sender's wish."
    else:
        code, text = "NOT_RECEIVED", "The event came here without its content."
    return MatrixError(404, f"FI.MAU.MSC2815_UNREDACTED_CONTENT_{code}", text)


def user_deactivated() -> MatrixError:
    """The account is no longer in use."""
    return MatrixError(403, "M_USER_DEACTIVATED", "This account has been deactivated.")


def user_locked() -> MatrixError:
    """The account is locked. Spec: client-server-api#account-locking."""
    return MatrixError(
        401,
        "M_USER_LOCKED",
        "This account has been locked. Ask the server's administrator.",
        soft_logout=True,
    )


def user_suspended() -> MatrixError:
    """The account is suspended. Spec: client-server-api#account-suspension."""
    return MatrixError(
        403, "M_USER_SUSPENDED", "You cannot do this while your account is suspended."
    )


def guest_access_forbidden(
    message: str = "Guests cannot do this. Make an account.",
) -> MatrixError:
    """The room or the endpoint is not for guests."""
    return MatrixError(403, "M_GUEST_ACCESS_FORBIDDEN", message)


# ── Accounts ─────────────────────────────────────────────────────────────────────────


def user_in_use(
    message: str = "This user name is taken. Choose another.",
) -> MatrixError:
    """The user name is taken."""
    return MatrixError(400, "M_USER_IN_USE", message)


def invalid_username(message: str) -> MatrixError:
    """The user name cannot be one."""
    return MatrixError(400, "M_INVALID_USERNAME", message)


def exclusive(message: str) -> MatrixError:
    """An application service has reserved this name."""
    return MatrixError(400, "M_EXCLUSIVE", message)


def unknown_device() -> MatrixError:
    """The user has no such device. Spec: application-service-api#identity-assertion."""
    return MatrixError(400, "M_UNKNOWN_DEVICE", "The user has no such device.")


def weak_password(message: str) -> MatrixError:
    """The password is too easy to guess."""
    return MatrixError(400, "M_WEAK_PASSWORD", message)


def threepid_in_use() -> MatrixError:
    """The address belongs to another account."""
    return MatrixError(
        400, "M_THREEPID_IN_USE", "This address belongs to an account already."
    )


def threepid_not_found() -> MatrixError:
    """The address belongs to no account."""
    return MatrixError(
        400, "M_THREEPID_NOT_FOUND", "This address belongs to no account here."
    )


def threepid_auth_failed(message: str) -> MatrixError:
    """It is not shown that the address is the caller's."""
    return MatrixError(401, "M_THREEPID_AUTH_FAILED", message)


def threepid_medium_not_supported(message: str) -> MatrixError:
    """The server cannot reach anybody that way."""
    return MatrixError(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED", message)


def user_awaiting_approval(*, by_email: bool) -> MatrixError:
    """The account has to be approved first. MSC3866."""
    prefix = "org.matrix.msc3866."
    return MatrixError(
        403,
        "ORG.MATRIX.MSC3866_USER_AWAITING_APPROVAL",
        "An administrator of this server has to approve this account first.",
        approval_notice_medium=prefix + ("email" if by_email else "none"),
    )


def appservice_login_unsupported() -> MatrixError:
    """Application services cannot log in here.

    Spec: client-server-api#appservice-login
    """
    return MatrixError(
        400,
        "M_APPSERVICE_LOGIN_UNSUPPORTED",
        "This server has no log-in for application services. Set inhibit_login.",
    )


def profile_too_large() -> MatrixError:
    """A profile would exceed 64 KiB."""
    return MatrixError(
        400, "M_PROFILE_TOO_LARGE", "A profile can hold at most 64 KiB in all."
    )


def key_too_large() -> MatrixError:
    """A profile field's name exceeds 255 bytes."""
    return MatrixError(
        400, "M_KEY_TOO_LARGE", "A profile field's name can have at most 255 bytes."
    )


# ── Keys ─────────────────────────────────────────────────────────────────────────────


def duplicate_one_time_key(name: str) -> MatrixError:
    """Another key waits under this name: the device has lost its private keys."""
    return MatrixError(
        400,
        # The error is not in the specification yet (MSC4420).
        "io.github.johennes.msc4420.M_DUPLICATE_ONE_TIME_KEY",
        f"One-time key {name} already exists.",
    )


def invalid_signature(message: str) -> MatrixError:
    """A signature does not verify, or is missing."""
    return MatrixError(400, "M_INVALID_SIGNATURE", message)


def wrong_room_keys_version(current_version: str) -> MatrixError:
    """Keys are written to the current version of the backup only.

    Spec: client-server-api#put_matrixclientv3room_keyskeys
    """
    return MatrixError(
        403,
        "M_WRONG_ROOM_KEYS_VERSION",
        "This is not the current version of the backup.",
        current_version=current_version,
    )


# ── Rooms ────────────────────────────────────────────────────────────────────────────


def bad_state(message: str) -> MatrixError:
    """The change does not fit the state, such as an unban of one not banned."""
    return MatrixError(403, "M_BAD_STATE", message)


def bad_alias(message: str) -> MatrixError:
    """An alias does not point to the room that it is claimed for."""
    return MatrixError(400, "M_BAD_ALIAS", message)


def room_in_use(message: str) -> MatrixError:
    """The alias asked for belongs to a room already."""
    return MatrixError(400, "M_ROOM_IN_USE", message)


def invalid_room_state(message: str) -> MatrixError:
    """The initial state given for a new room is refused by the room's rules."""
    return MatrixError(400, "M_INVALID_ROOM_STATE", message)


def duplicate_annotation() -> MatrixError:
    """The same user has put the same annotation on this event before.

    Spec: client-server-api#avoiding-duplicate-annotations
    """
    return MatrixError(
        400, "M_DUPLICATE_ANNOTATION", "You have reacted with this already."
    )


def unsupported_room_version(version: str) -> MatrixError:
    """A room was to be made of a version that we do not know."""
    return MatrixError(
        400,
        "M_UNSUPPORTED_ROOM_VERSION",
        f"This server does not know room version {version[:32]!r}.",
    )


def incompatible_room_version(version: str) -> MatrixError:
    """The room's version is not among those that the joining server knows."""
    return MatrixError(
        400,
        "M_INCOMPATIBLE_ROOM_VERSION",
        f"The room has version {version[:32]!r}, which the joining server lacks.",
        room_version=version,
    )


def server_not_trusted(message: str) -> MatrixError:
    """The request rests on a third-party server that this server does not trust."""
    return MatrixError(403, "M_SERVER_NOT_TRUSTED", message)


def unable_to_authorise_join(message: str) -> MatrixError:
    """We cannot tell whether a restricted room's conditions are met."""
    return MatrixError(400, "M_UNABLE_TO_AUTHORISE_JOIN", message)


def unable_to_grant_join(message: str) -> MatrixError:
    """The conditions are met, but no user of this server can vouch for the join."""
    return MatrixError(400, "M_UNABLE_TO_GRANT_JOIN", message)


def invite_blocked(message: str) -> MatrixError:
    """The invited user, or their server, takes no such invites.

    Spec: client-server-api#invite-permission
    """
    return MatrixError(403, "M_INVITE_BLOCKED", message)


def cannot_leave_server_notice_room() -> MatrixError:
    """The server's own messages cannot be declined."""
    return MatrixError(
        403,
        "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM",
        "You cannot reject the invitation to the server's own messages.",
    )


# ── What others did wrong ────────────────────────────────────────────────────────────


def of_caller(error: ProtocolError) -> MatrixError:
    """The answer to a caller who sent something that breaks the protocol.

    Only for mistakes that the caller made. What another server sent us while we did
    something for the caller is `bad_gateway`.
    """
    if isinstance(error, TooLarge):
        return too_large(_sentence(error))
    if isinstance(error, Rejected | BadSignature):
        return forbidden(_sentence(error))
    return bad_json(_sentence(error))


def bad_gateway(message: str) -> MatrixError:
    """Another server cannot be reached or answered nonsense."""
    return MatrixError(502, "M_UNKNOWN", message)


def _sentence(error: ProtocolError) -> str:
    # Lone surrogates in a quoted value cannot be sent.
    text = str(error).encode("utf-8", "backslashreplace").decode()
    return f"{text[:1].upper()}{text[1:500]}."
