-- Presence, which a crash of the database may forget.
CREATE UNLOGGED TABLE presence (
    user_id text COLLATE "C" PRIMARY KEY,
    rank smallint NOT NULL,
    status text COLLATE "C",
    last_active timestamptz,
    currently_active boolean NOT NULL,
    position bigint NOT NULL,
    local boolean NOT NULL,
    told_at timestamptz NOT NULL
);
CREATE INDEX presence_position ON presence (position);
CREATE INDEX presence_there ON presence (told_at) WHERE rank > 0;

CREATE UNLOGGED TABLE presence_devices (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    rank smallint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

ALTER TABLE profiles ADD COLUMN position bigint NOT NULL DEFAULT 0;
CREATE INDEX profiles_position ON profiles (position) WHERE position > 0;
