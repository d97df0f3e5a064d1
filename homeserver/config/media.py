"""The section [media]: files of this server's users, and copies of others'."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from homeserver.config import checks


class Media(Struct, frozen=True, kw_only=True):
    """Files that users send, and copies of other servers' files."""

    max_upload_size: Annotated[
        str,
        Meta(
            description="The largest file that a user may upload. A reverse proxy in"
            " front has a limit of its own.",
            extra={"check": checks.size},
        ),
    ] = "100M"
    max_remote_size: Annotated[
        str,
        Meta(
            description="The largest file that is fetched from another server.",
            extra={"check": checks.size},
        ),
    ] = "200M"
    remote_cache_size: Annotated[
        str,
        Meta(
            description="What copies of other servers' files may take up in all; those"
            " used longest ago go first, and are fetched again when asked for.",
            extra={"check": checks.size},
        ),
    ] = "20G"
    remote_keep_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="Copies that nobody asked for in so many days are removed."
            " 0: they stay while there is room.",
        ),
    ] = 0
    user_quota: Annotated[
        str,
        Meta(
            description="What the files of one user may take up in all. 0: no limit.",
            extra={"check": checks.size},
        ),
    ] = "0"
    total_quota: Annotated[
        str,
        Meta(
            description="What the files of all users may take up. 0: no limit.",
            extra={"check": checks.size},
        ),
    ] = "0"
    unauthenticated_until: Annotated[
        str,
        Meta(
            description="Files stored before this day (YYYY-MM-DD) can also be fetched"
            " without an access token, as clients and servers did before Matrix 1.11."
            " Empty: none can. Set it to the day of the move when files come from"
            " another homeserver.",
            extra={"check": checks.day},
        ),
    ] = ""
    max_image_pixels: Annotated[
        int,
        Meta(
            ge=1_000_000,
            le=500_000_000,
            description="Images with more pixels than this get no thumbnails. One"
            " million pixels take up to 8 MB while a thumbnail is made.",
        ),
    ] = 64_000_000
    thumbnail_workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes that make thumbnails at the same time, at most."
            " They are started when needed and end when idle.",
        ),
    ] = 2

    url_previews: Annotated[
        bool,
        Meta(
            description="Whether clients may ask this server what is behind a link. It"
            " then calls where users' links lead, though never into private networks."
        ),
    ] = False

    scan_command: Annotated[
        tuple[str, ...],
        Meta(
            description="A program that looks at each new file, its name being the last"
            ' argument, such as ["clamdscan", "--fdpass", "--no-summary"]. Exit status'
            " 0: the file is kept; 1: it is refused; any other: it is not taken now."
            " Empty: all files are kept."
        ),
    ] = ()

    @property
    def upload_bytes(self) -> int:
        """`max_upload_size` in bytes."""
        return checks.parse_size(self.max_upload_size)

    @property
    def remote_bytes(self) -> int:
        """`max_remote_size` in bytes."""
        return checks.parse_size(self.max_remote_size)

    @property
    def cache_bytes(self) -> int:
        """`remote_cache_size` in bytes."""
        return checks.parse_size(self.remote_cache_size)

    @property
    def user_bytes(self) -> int:
        """`user_quota` in bytes; 0 is no limit."""
        return checks.parse_size(self.user_quota)

    @property
    def total_bytes(self) -> int:
        """`total_quota` in bytes; 0 is no limit."""
        return checks.parse_size(self.total_quota)

    @property
    def frozen_from(self) -> datetime | None:
        """When unauthenticated downloads were frozen; None: before there was any."""
        if not self.unauthenticated_until:
            return None
        return datetime.fromisoformat(self.unauthenticated_until).replace(tzinfo=UTC)
