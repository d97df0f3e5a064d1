-- Events that were pushed while a key that they are signed with was not to be had.
CREATE TABLE unverified_events (
    room_nid bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,             -- the server that pushed it
    server text COLLATE "C" NOT NULL,             -- the server whose key is lacking
    json text COLLATE "C" NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,                  -- nobody tries before
    PRIMARY KEY (room_nid, event_id)
);

CREATE INDEX unverified_events_by_origin ON unverified_events (origin);

CREATE INDEX unverified_events_by_server ON unverified_events (server, received_at);

CREATE INDEX unverified_events_by_due ON unverified_events (due_at);
