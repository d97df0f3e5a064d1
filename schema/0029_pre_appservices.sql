-- Application services (homeserver/appservices): who they are, and how far each has been
-- told what happens. Their rooms in lists of third-party networks.
CREATE TABLE appservices (
    service_id text COLLATE "C" PRIMARY KEY,
    registration text COLLATE "C" NOT NULL,    -- JSON, with its tokens
    active boolean NOT NULL,
    position bigint NOT NULL,                  -- everything up to it has been told
    txn bigint NOT NULL DEFAULT 0,             -- the number of the newest transaction
    pending text COLLATE "C",                  -- its JSON, until it was answered, and
    pending_upto bigint,                       -- the position that it reaches to
    failures integer NOT NULL DEFAULT 0,
    retry_at timestamptz,
    holder text COLLATE "C",                   -- the process that tells it, and
    until timestamptz                          -- until when, unless it renews that
);
CREATE TABLE appservice_rooms (
    service_id text COLLATE "C" NOT NULL,
    network_id text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL,
    PRIMARY KEY (service_id, network_id, room_nid)
);
