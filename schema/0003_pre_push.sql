-- ── Push ─────────────────────────────────────────────────────────────────────────

-- What users changed of their push rules (homeserver/push/rules.py), as JSON, each time
-- they did: an event is judged by the rules of its time.
CREATE TABLE push_rules (
    user_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    changes text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, position)
);

-- What events after one position, up to and with another, mean to members with default
-- rules (homeserver/push/digests.py). It can be made anew from the events at any time.
CREATE TABLE push_pages (
    room_nid bigint NOT NULL REFERENCES rooms,
    after bigint NOT NULL,
    last bigint NOT NULL,
    digests text COLLATE "C" NOT NULL,         -- JSON
    PRIMARY KEY (room_nid, last, after)
);

-- Counts of users with rules of their own, so that a long way need not be gone again:
-- what is unread between two positions. It can be made anew as well.
CREATE TABLE push_tallies (
    user_id text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL REFERENCES rooms,
    marks text COLLATE "C" NOT NULL,           -- how far was read, as JSON
    upto bigint NOT NULL,
    counts text COLLATE "C" NOT NULL,          -- JSON, by thread
    PRIMARY KEY (room_nid, user_id)
);

-- Where users are to be told of events. Everything up to `position` has been told.
CREATE TABLE pushers (
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    app_id text COLLATE "C" NOT NULL,
    pushkey text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    app_display_name text COLLATE "C" NOT NULL,
    device_display_name text COLLATE "C" NOT NULL,
    profile_tag text COLLATE "C",
    lang text COLLATE "C" NOT NULL,
    data text COLLATE "C" NOT NULL,            -- JSON
    device_id text COLLATE "C",                -- the device that set it
    ts bigint NOT NULL,                        -- when, in seconds
    position bigint NOT NULL,
    failures integer NOT NULL DEFAULT 0,       -- of the gateway, one after the other
    retry_at timestamptz,
    holder text COLLATE "C",                   -- the process that sends for it now
    until timestamptz,                         -- and how long it may
    PRIMARY KEY (user_id, app_id, pushkey),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX pushers_pushkey ON pushers (app_id, pushkey);
CREATE INDEX pushers_retry ON pushers (retry_at) WHERE retry_at IS NOT NULL;
