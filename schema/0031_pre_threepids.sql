-- E-mail addresses and phone numbers of accounts, and messages on their way to them.
CREATE TABLE user_threepids (
    medium text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    validated_ms bigint NOT NULL,
    added_ms bigint NOT NULL,
    PRIMARY KEY (medium, address)
);
CREATE INDEX user_threepids_user ON user_threepids (user_id);

CREATE TABLE threepid_bindings (
    user_id text COLLATE "C" NOT NULL,
    medium text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    id_server text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, medium, address, id_server)
);

CREATE TABLE threepid_sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    purpose text COLLATE "C" NOT NULL,
    medium text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    secret_hash bytea NOT NULL,
    send_attempt bigint NOT NULL,
    token_hash bytea NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    next_link text COLLATE "C",
    validated_at timestamptz,
    expires_at timestamptz NOT NULL,
    UNIQUE (purpose, medium, address, secret_hash)
);
CREATE INDEX threepid_sessions_expires ON threepid_sessions (expires_at);

CREATE TABLE outbox (
    message_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    medium text COLLATE "C" NOT NULL,
    recipient text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    plain text COLLATE "C" NOT NULL,
    html text COLLATE "C" NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_due ON outbox (due_at);

-- The flows that a session was shown, for its fallback pages.
ALTER TABLE uia_sessions ADD COLUMN flows text COLLATE "C" NOT NULL DEFAULT '[]';

ALTER TABLE users ADD COLUMN approved boolean NOT NULL DEFAULT true;
CREATE INDEX users_unapproved ON users (created_at) WHERE NOT approved;
