-- Devices: keys, device lists, messages to devices, key backups.

ALTER TABLE devices ADD COLUMN keys_position bigint NOT NULL DEFAULT 0;

CREATE INDEX events_state ON events (room_nid, key_nid, position)
    WHERE key_nid IS NOT NULL AND position IS NOT NULL;
CREATE INDEX memberships_joined ON memberships (user_id) WHERE membership = 'join';
CREATE INDEX outgoing_edus_position ON outgoing_edus (position);

-- ── Devices and end-to-end encryption ────────────────────────────────────────────

-- When each user's device list moved last, as clients are told; ours and others'.
-- `stream_id` counts the changes of a list of ours, for other servers.
CREATE TABLE device_lists (
    user_id text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    stream_id bigint NOT NULL DEFAULT 0
);
CREATE INDEX device_lists_position ON device_lists (position);

-- Identity keys of our users' devices: JSON as uploaded.
CREATE TABLE device_keys (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    keys text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

-- Each is given out once, the oldest first: those of the lowest position.
CREATE TABLE one_time_keys (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    key text COLLATE "C" NOT NULL,             -- JSON
    claimed_at timestamptz,                    -- kept a while: it must not come back
    PRIMARY KEY (user_id, device_id, algorithm, key_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX one_time_keys_oldest
    ON one_time_keys (user_id, device_id, algorithm, position, key_id)
    WHERE claimed_at IS NULL;

CREATE TABLE fallback_keys (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,             -- JSON
    used boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, device_id, algorithm),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

-- Master, self-signing and user-signing keys of our users: JSON as uploaded.
CREATE TABLE cross_signing_keys (
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    usage text COLLATE "C" NOT NULL,
    public_key text COLLATE "C" NOT NULL,      -- what stands after `ed25519:`
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, usage)
);

-- Signatures that our users put on keys after these were uploaded. `key_id` is a
-- device's ID or the public part of a cross-signing key.
CREATE TABLE key_signatures (
    user_id text COLLATE "C" NOT NULL,         -- whose key is signed
    key_id text COLLATE "C" NOT NULL,
    signer text COLLATE "C" NOT NULL,
    signer_key text COLLATE "C" NOT NULL,      -- such as `ed25519:ABC`
    signature text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (user_id, key_id, signer, signer_key)
);
CREATE INDEX key_signatures_signer ON key_signatures (signer, position);

-- Messages that wait for devices of ours; `content` is JSON.
CREATE TABLE to_device (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    content text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, device_id, position),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX to_device_position ON to_device (position);

-- What was sent already: a transaction of a device of ours, or (with an empty
-- device_id) a message_id of another server's user.
CREATE TABLE to_device_seen (
    sender text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, device_id, id)
);
CREATE INDEX to_device_seen_at ON to_device_seen USING brin (at);

-- Device lists of other servers' users, as far as we follow them. A list is good while
-- it is not `stale`; a stale one is fetched again, when its time has come.
CREATE TABLE remote_device_lists (
    user_id text COLLATE "C" PRIMARY KEY,
    stream_id bigint NOT NULL,
    stale boolean NOT NULL,
    generation bigint NOT NULL DEFAULT 0,      -- of what was told of it
    retry_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    master_key text COLLATE "C",
    self_signing_key text COLLATE "C"
);
CREATE INDEX remote_device_lists_stale ON remote_device_lists (retry_at) WHERE stale;

CREATE TABLE remote_devices (
    user_id text COLLATE "C" NOT NULL
        REFERENCES remote_device_lists ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL,
    keys text COLLATE "C" NOT NULL,
    display_name text COLLATE "C",
    PRIMARY KEY (user_id, device_id)
);

CREATE TABLE key_backups (
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    version bigint NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    auth_data text COLLATE "C" NOT NULL,       -- JSON
    etag bigint NOT NULL DEFAULT 0,
    count bigint NOT NULL DEFAULT 0,
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, version)
);

CREATE TABLE key_backup_sessions (
    user_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count bigint NOT NULL,
    is_verified boolean NOT NULL,
    session_data text COLLATE "C" NOT NULL,    -- JSON
    PRIMARY KEY (user_id, version, room_id, session_id),
    FOREIGN KEY (user_id, version) REFERENCES key_backups ON DELETE CASCADE
);
