"""Where we answer otherwise than Synapse 1.163, and the paragraph that says we may."""

from typing import Final

# Lines that differ wherever an event or a device is shown: (pattern, reason).
ANYWHERE: Final = (
    # Synapse shows events in the format of before v1.0 beside today's, which has these
    # nowhere but in `unsigned`: room-event-format.
    (r"(?<!unsigned)\.(age|user_id|replaces_state|prev_content)\b", "an old format"),
    # What `unsigned` has, room-event-format names.
    (r"unsigned\.(prev_sender|redacted_by)\b", "not in the specification"),
    (r"redacted_because\.", "an event in an event: what of `unsigned` it has is free"),
    # Wherever events are shown: room-event-format, MSC4115.
    (r"m\.relations\..*unsigned\.(membership|transaction_id)\b", "bundled events too"),
    (r"unsigned\.transaction_id\b", "for the sender's device, wherever events are"),
    # What createRoom puts into a room is free but for the presets.
    (r"content\.(guest_access|historical|events\.m\.call\.invite)\b", "a choice"),
    # What the page held depends on how many events a room begins with.
    (r"(events_before|timeline\.events)\[\]\.(unsigned\.prev_)?content\.", "content"),
    (r"unsigned\.(prev_content|replaces_state)\b", "depends on the events shown"),
    (r"one_time_keys?_counts?\b", "an algorithm that is not listed has none"),
    # A name that is not set is not there, and it is a string: getdevices.
    (r"(display_name|avatar_url): null", "not set"),
    # It must be told where the timeline is limited, and may be elsewhere: aggregations.
    (r"timeline\.events\[\]\.unsigned\.m\.relations\.", "Synapse: only where limited"),
    (r"timeline\.events\[\]\.room_id", "an event without its room: get_sync"),
    (r"joined\.<user>: object", "a member with neither name nor avatar"),
)

# By step: the paragraph, and what differs.
DIFFERENCES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "an unknown login": (
        "post_matrixclientv3login: M_UNKNOWN for a bad login type",
        ("errcode M_UNKNOWN, not M_INVALID_PARAM",),
    ),
    "an avatar not set": (
        "get_matrixclientv3profileuseridkeyname: 404 for what is not set",
        ("status 404, not 200", "errcode M_NOT_FOUND, not None"),
    ),
    "nobody's profile": (
        "get_matrixclientv3profileuserid: 404 M_NOT_FOUND",
        ("errcode M_NOT_FOUND, not M_UNKNOWN",),
    ),
    "another's name": (
        "put_matrixclientv3profileuseridkeyname: 403 M_FORBIDDEN",
        ("status 403, not 400",),
    ),
    "a bad filter": (
        "standard-error-response: M_BAD_JSON for a malformed body",
        ("status 400, not 500", "errcode M_BAD_JSON, not M_UNKNOWN"),
    ),
    "a bad invite": (
        "standard-error-response: M_INVALID_PARAM for a value that cannot be",
        ("errcode M_INVALID_PARAM, not M_UNKNOWN",),
    ),
    "join nowhere": (
        "post_matrixclientv3joinroomidoralias: 404 M_NOT_FOUND",
        ("errcode M_NOT_FOUND, not M_UNKNOWN",),
    ),
    "join nonsense": (
        "standard-error-response: M_INVALID_PARAM for a value that cannot be",
        ("errcode M_INVALID_PARAM, not M_UNKNOWN",),
    ),
    "set state without power": (
        "put_matrixclientv3roomsroomidstateeventtypestatekey: 403 M_FORBIDDEN",
        ("status 403, not 400", "errcode M_FORBIDDEN, not M_UNKNOWN"),
    ),
    "read no event": (
        "appendices#event-ids: this is none",
        ("status 400, not 404", "errcode M_INVALID_PARAM, not M_NOT_FOUND"),
    ),
    "no context": (
        "appendices#event-ids: this is none",
        ("status 400, not 404", "errcode M_INVALID_PARAM, not M_NOT_FOUND"),
    ),
    "redact nothing": (
        "appendices#event-ids: this is none",
        ("status 400, not 200", "errcode M_INVALID_PARAM, not None"),
    ),
    "messages without dir": (
        "get_matrixclientv3roomsroomidmessages: dir is required",
        ("status 400, not 200", "errcode M_MISSING_PARAM, not None"),
    ),
    "messages outside": (
        "get_matrixclientv3roomsroomidmessages: dir is required",
        ("status 400, not 403", "errcode M_MISSING_PARAM, not M_FORBIDDEN"),
    ),
    "another types": (
        "standard-error-response: M_FORBIDDEN for what one may not do",
        ("status 403, not 400",),
    ),
    "an unknown receipt": (
        "standard-error-response: M_INVALID_PARAM for a value that cannot be",
        ("errcode M_INVALID_PARAM, not M_UNKNOWN",),
    ),
    "search": (
        "post_matrixclientv3search: context only when it was asked for",
        ("less: .search_categories.room_events.results[].context: object",),
    ),
    "search nothing": (
        "standard-error-response: M_BAD_JSON for a body that lacks keys",
        ("errcode M_BAD_JSON, not M_UNKNOWN",),
    ),
    "search for no text": (
        "post_matrixclientv3search: room_events is not required",
        ("status 200, not 400", "errcode None, not M_UNKNOWN"),
    ),
    "invite nobody": (
        "standard-error-response: M_BAD_JSON for a body that lacks keys",
        ("errcode M_BAD_JSON, not M_MISSING_PARAM",),
    ),
    "join when banned": (
        "post_matrixclientv3roomsroomidjoin: M_FORBIDDEN when one is banned",
        ("errcode M_FORBIDDEN, not M_BAD_STATE",),
    ),
    "invite the banned": (
        "post_matrixclientv3roomsroomidinvite: M_FORBIDDEN when they are banned",
        ("errcode M_FORBIDDEN, not M_BAD_STATE",),
    ),
    "query keys": (
        "post_matrixclientv3keysquery: cross-signing keys where there are some",
        (
            "less: .master_keys: object",
            "less: .self_signing_keys: object",
            "less: .user_signing_keys: object",
        ),
    ),
    "sync": (
        "get_matrixclientv3sync: the counts when they are new to the client",
        (
            "more: .rooms.join.<room>.summary.m.invited_member_count: number",
            "more: .rooms.join.<room>.summary.m.joined_member_count: number",
            "less: .rooms.join.<room>.summary: object",
        ),
    ),
    "sync with a bad token": (
        "standard-error-response: M_INVALID_PARAM for a value that cannot be",
        ("errcode M_INVALID_PARAM, not M_UNKNOWN",),
    ),
    # Synapse stumbles over the topic that was redacted.
    "upgrade": (
        "post_matrixclientv3roomsroomidupgrade",
        ("status 200, not 400", "errcode None, not M_UNKNOWN"),
    ),
    "leave nowhere": (
        "standard-error-response: nobody learns which rooms exist",
        ("status 403, not 404", "errcode M_FORBIDDEN, not M_UNKNOWN"),
    ),
}
