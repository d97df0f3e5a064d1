"""What clients and people are told in .well-known."""

from typing import Annotated

from msgspec import Meta, Struct

from homeserver.config import checks


class Clients(Struct, frozen=True, kw_only=True):
    """What clients are told in .well-known besides where the server is."""

    encryption_by_default: Annotated[
        bool,
        Meta(
            description="false: Element makes direct chats and private rooms without"
            " encryption."
        ),
    ] = True
    require_secure_backup: Annotated[
        bool,
        Meta(description="Whether Element insists on a backup of keys."),
    ] = False
    map_style_url: Annotated[
        str,
        Meta(
            description="The style of the maps on which clients show shared locations,"
            " such as https://maps.example.org/style.json. Empty: not told.",
            extra={"check": checks.page_url},
        ),
    ] = ""


class Support(Struct, frozen=True, kw_only=True):
    """Whom people turn to, at /.well-known/matrix/support. All empty: not told."""

    page: Annotated[
        str,
        Meta(
            description="A page that helps, such as https://example.org/help.",
            extra={"check": checks.page_url},
        ),
    ] = ""
    admin_matrix_id: Annotated[
        str,
        Meta(
            description="The administrator's Matrix ID, best on another server.",
            extra={"check": checks.user_id},
        ),
    ] = ""
    admin_email: Annotated[
        str,
        Meta(
            description="The administrator's email address.",
            extra={"check": checks.email},
        ),
    ] = ""
    security_matrix_id: Annotated[
        str,
        Meta(
            description="The Matrix ID for reports about security.",
            extra={"check": checks.user_id},
        ),
    ] = ""
    security_email: Annotated[
        str,
        Meta(
            description="The email address for reports about security.",
            extra={"check": checks.email},
        ),
    ] = ""
