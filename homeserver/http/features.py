"""What clients may count on: the specification's versions and the flags of proposals.

A flag stays here as long as clients ask for it, also when the specification has taken
the proposal in. Routes name theirs (`route(..., flag=...)`), so that the reference page
can say which path belongs to which proposal.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from homeserver.config import Config

# Modules that are not built answer M_UNRECOGNIZED.
VERSIONS: Final = (
    "r0.6.1",
    "v1.1",
    "v1.2",
    "v1.3",
    "v1.4",
    "v1.5",
    "v1.6",
    "v1.7",
    "v1.8",
    "v1.9",
    "v1.10",
    "v1.11",
    "v1.12",
    "v1.13",
    "v1.14",
    "v1.15",
    "v1.16",
    "v1.17",
    "v1.18",
    "v1.19",
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A flag in `unstable_features` of `/versions`.

    `since` is the version of the specification that took it in, if one did. `setting`
    is the key of the configuration that switches it on, if not every server has it.
    """

    flag: str
    msc: int
    what: str
    since: str | None = None
    setting: str | None = None

    def is_on(self, config: Config) -> bool:
        """Whether this server has it."""
        return self.setting is None or bool(attrgetter(self.setting)(config))


FEATURES: Final = (
    Feature("org.matrix.msc3440.stable", 3440, "threads", "1.4"),
    Feature("org.matrix.msc3715", 3715, "relations in both directions", "1.4"),
    Feature("org.matrix.msc3856", 3856, "the list of threads", "1.4"),
    Feature("org.matrix.msc3981", 3981, "relations of relations", "1.10"),
    Feature("org.matrix.msc3874", 3874, "filters by the kind of relation"),
    Feature("org.matrix.msc4151", 4151, "reports of rooms", "1.13"),
    Feature("org.matrix.msc4260", 4260, "reports of users", "1.14"),
    Feature("org.matrix.msc3912", 3912, "redaction of what relates to an event"),
    Feature("fi.mau.msc2815", 2815, "redacted content for moderators"),
    Feature("org.matrix.msc4354", 4354, "sticky events"),
    Feature("org.matrix.msc3026.busy_presence", 3026, "busy as a state of presence"),
    Feature("org.matrix.msc3391", 3391, "deleting account data"),
    Feature("org.matrix.msc3881", 3881, "pushers switched off from another device"),
    Feature(
        "org.matrix.msc3881.stable", 3881, "pushers switched off from another device"
    ),
    Feature(
        "org.matrix.msc4028",
        4028,
        "pushes of every encrypted event",
        setting="push.encrypted_events",
    ),
    Feature(
        "org.matrix.msc4306",
        4306,
        "threads that users follow",
        setting="push.thread_subscriptions",
    ),
    Feature("org.matrix.msc4140", 4140, "delayed events"),
    Feature("org.matrix.msc4143", 4143, "the transports of calls"),
    Feature("org.matrix.msc4262", 4262, "profiles of others in sliding sync"),
    Feature("org.matrix.msc4429", 4429, "profiles of others in sync"),
    Feature("org.matrix.simplified_msc3575", 4186, "simplified sliding sync"),
    Feature("uk.timedout.msc4323", 4323, "locking and suspending", since="1.18"),
    Feature("uk.tcpip.msc4133", 4133, "profile fields", since="1.16"),
    Feature("uk.tcpip.msc4133.stable", 4133, "profile fields", since="1.16"),
    Feature("org.matrix.msc3916.stable", 3916, "authenticated media", "1.11"),
    Feature("org.matrix.msc3827.stable", 3827, "rooms found by type", "1.4"),
    Feature("org.matrix.msc4380.stable", 4380, "invites blocked altogether", "1.18"),
    Feature("org.matrix.msc4155", 4155, "invites allowed, ignored and blocked"),
    Feature(
        "uk.half-shot.msc2666.query_mutual_rooms", 2666, "rooms two users share", "1.19"
    ),
    Feature(
        "uk.half-shot.msc2666.query_mutual_rooms.stable",
        2666,
        "rooms two users share",
        "1.19",
    ),
    Feature("org.matrix.msc4108", 4108, "logging in by QR code"),
    Feature("org.matrix.msc2965", 2965, "OAuth: where clients log in", "1.15"),
)
FLAGS: Final = frozenset(each.flag for each in FEATURES)
