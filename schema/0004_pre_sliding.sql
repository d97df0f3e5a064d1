-- What clients have got over connections of sliding sync.

-- ── Sliding sync ─────────────────────────────────────────────────────────────────

-- What a client has got over each of its connections: the state of the answer given
-- last, and the one before, which counts until the client comes with the newer's token.
CREATE TABLE sliding_connections (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    conn_id text COLLATE "C" NOT NULL,
    older text COLLATE "C",
    older_state bytea,
    newer text COLLATE "C" NOT NULL,
    newer_state bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, device_id, conn_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX sliding_connections_used ON sliding_connections (used_at);
