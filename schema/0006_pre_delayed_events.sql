-- Delayed events.

-- What users scheduled to be sent later (MSC4140). Waiting until `finalised_at`: then it
-- was sent (event_id), could not be sent (error, JSON), or was cancelled.
CREATE TABLE delayed_events (
    delay_id text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    room_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    state_key text COLLATE "C",                -- NULL: not a state event
    content text COLLATE "C" NOT NULL,         -- JSON
    delay_ms bigint NOT NULL,
    sticky_ms bigint,
    origin_server_ts bigint,                   -- NULL: when it is sent
    device_id text COLLATE "C",                -- who scheduled it, and
    txn_id text COLLATE "C",                   -- under which transaction ID
    scheduled_at timestamptz NOT NULL,         -- or restarted
    send_at timestamptz NOT NULL,
    claimed_until timestamptz,                 -- somebody is sending it
    finalised_at timestamptz,
    event_id text COLLATE "C",
    error text COLLATE "C"
);
CREATE INDEX delayed_events_due ON delayed_events (send_at)
    WHERE finalised_at IS NULL;
CREATE INDEX delayed_events_user ON delayed_events (user_id, send_at)
    WHERE finalised_at IS NULL;
CREATE INDEX delayed_events_finalised ON delayed_events (finalised_at)
    WHERE finalised_at IS NOT NULL;
CREATE UNIQUE INDEX delayed_events_txn
    ON delayed_events (user_id, device_id, room_id, type, txn_id)
    WHERE txn_id IS NOT NULL;
