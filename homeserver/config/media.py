"""The section [media]: files of this server's users, and copies of others'."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from homeserver.config import checks


class Media(Struct, frozen=True, kw_only=True):
    """Files that users send, and copies of other servers' files."""

    store: Annotated[
        Literal["disk", "s3"],
        Meta(
            description="Where new files go: under data_dir, or into the bucket of"
            " [s3]. Those that are elsewhere stay there and are served from there;"
            " `hearth media move` moves them while the server runs."
        ),
    ] = "disk"
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


class Bucket(Struct, frozen=True, kw_only=True):
    """A bucket for files, in any store that speaks the S3 protocol."""

    bucket: Annotated[
        str,
        Meta(
            description="The bucket's name. It must be there. Empty: no bucket.",
            extra={"check": checks.bucket},
        ),
    ] = ""
    endpoint: Annotated[
        str,
        Meta(
            description="Where the store is, such as https://minio.example.org:9000."
            " Empty: Amazon's, of the region.",
            extra={"check": checks.base_url},
        ),
    ] = ""
    region: Annotated[
        str,
        Meta(
            description="The region; stores other than Amazon's mostly take us-east-1.",
            extra={"check": checks.region},
        ),
    ] = "us-east-1"
    prefix: Annotated[
        str,
        Meta(
            description='What the names of all objects begin with, such as "hearth/".'
            " What else begins so is taken for a leftover and deleted.",
            extra={"check": checks.object_prefix},
        ),
    ] = "media/"
    virtual_hosts: Annotated[
        bool,
        Meta(
            description="Whether the bucket is a part of the endpoint's host name, and"
            " not of the path. With Amazon's it is in any case."
        ),
    ] = False
    access_key: Annotated[
        str,
        Meta(
            description="Who we are there. Empty: as AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the environment say."
        ),
    ] = ""
    secret_key: Annotated[str, Meta(description="The secret to it.")] = ""
    redirect_minutes: Annotated[
        int,
        Meta(
            ge=0,
            le=10_080,
            description="Clients and servers that can follow are sent to the store"
            " itself, by links that are good for so long; the store must be reachable"
            " for them. 0: everything goes through this server.",
        ),
    ] = 0
    ca_file: Annotated[
        str,
        Meta(
            description="A further certificate authority that may vouch for the store,"
            " a PEM file.",
            extra={"path": "file"},
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if bool(self.access_key) != bool(self.secret_key):
            missing = "secret_key" if self.access_key else "access_key"
            raise ValueError(f"`{missing}` is missing: one goes with the other")
