-- OAuth 2.0: clients, what they were granted, and the browsers that people log in with.
CREATE TABLE oauth_clients (
    client_id text COLLATE "C" PRIMARY KEY,    -- made from the metadata
    metadata text COLLATE "C" NOT NULL,        -- JSON
    registered_at timestamptz NOT NULL DEFAULT now()
);

-- A code is kept a while after its use, so that a second use is noticed.
CREATE TABLE oauth_codes (
    code_hash bytea PRIMARY KEY,               -- SHA-256
    client_id text COLLATE "C" NOT NULL REFERENCES oauth_clients ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    device_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    redirect_uri text COLLATE "C" NOT NULL,
    challenge text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    used boolean NOT NULL DEFAULT false
);
CREATE INDEX oauth_codes_expires ON oauth_codes (expires_at);

-- Devices that wait for their user to allow them on another one (RFC 8628).
CREATE TABLE oauth_device_codes (
    code_hash bytea PRIMARY KEY,               -- SHA-256
    user_code text COLLATE "C" NOT NULL UNIQUE,
    client_id text COLLATE "C" NOT NULL REFERENCES oauth_clients ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    poll_after timestamptz NOT NULL,           -- who asks before is told to slow down
    user_id text COLLATE "C" REFERENCES users, -- who has answered
    allowed boolean                            -- what
);
CREATE INDEX oauth_device_codes_expires ON oauth_device_codes (expires_at);

-- Devices whose tokens came from OAuth, and the client that they were given to.
CREATE TABLE oauth_sessions (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    client_id text COLLATE "C" NOT NULL REFERENCES oauth_clients,
    scope text COLLATE "C" NOT NULL,
    code_hash bytea,                           -- of the code that it began with
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX oauth_sessions_client ON oauth_sessions (client_id);

-- Browsers in which somebody is logged in, by the hash of their cookie.
CREATE TABLE browser_sessions (
    cookie_hash bytea PRIMARY KEY,             -- SHA-256
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    password_print bytea NOT NULL,             -- another password ends the session
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX browser_sessions_user ON browser_sessions (user_id);
CREATE INDEX browser_sessions_created ON browser_sessions (created_at);

-- Users who have just allowed that their cross-signing keys be replaced.
CREATE TABLE cross_signing_resets (
    user_id text COLLATE "C" PRIMARY KEY REFERENCES users,
    expires_at timestamptz NOT NULL
);
