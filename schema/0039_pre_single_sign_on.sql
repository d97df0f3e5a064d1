-- Single sign-on: who is whom elsewhere, and log-ins that have begun there.

-- Accounts of ours and those elsewhere that they belong to.
CREATE TABLE sign_on_links (
    provider text COLLATE "C" NOT NULL,        -- its ID in the configuration
    subject text COLLATE "C" NOT NULL,         -- who it is there
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    linked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, subject)
);
CREATE INDEX sign_on_links_user ON sign_on_links (user_id);

-- Browsers that were sent to a provider and have not come back yet.
CREATE TABLE sign_on_requests (
    state_hash bytea PRIMARY KEY,              -- SHA-256
    provider text COLLATE "C" NOT NULL,
    browser bytea NOT NULL,                    -- the hash of its cookie
    secrets text COLLATE "C" NOT NULL,         -- JSON: what the answer must fit
    purpose text COLLATE "C" NOT NULL,         -- JSON: what it is for
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_on_requests_expires ON sign_on_requests (expires_at);

-- Browsers that have come back with somebody whom nobody here knows yet.
CREATE TABLE sign_on_arrivals (
    browser bytea PRIMARY KEY,                 -- the hash of its cookie
    identity text COLLATE "C" NOT NULL,        -- JSON
    onward text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_on_arrivals_expires ON sign_on_arrivals (expires_at);

-- Log-ins through a provider, which may end there (back-channel logout).
CREATE TABLE sign_ons (
    sign_on bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    sid text COLLATE "C" NOT NULL,             -- the session there; may be empty
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sign_ons_subject ON sign_ons (provider, subject);
CREATE INDEX sign_ons_sid ON sign_ons (provider, sid);
CREATE INDEX sign_ons_created ON sign_ons (created_at);

-- Devices that began with one.
CREATE TABLE sign_on_devices (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    sign_on bigint NOT NULL REFERENCES sign_ons ON DELETE CASCADE,
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX sign_on_devices_sign_on ON sign_on_devices (sign_on);

-- Tokens of others that are good once, until they run out by themselves.
CREATE TABLE sign_on_used (
    token_hash bytea PRIMARY KEY,              -- SHA-256
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_on_used_expires ON sign_on_used (expires_at);

ALTER TABLE browser_sessions ADD COLUMN sign_on bigint;
ALTER TABLE browser_sessions ADD COLUMN confirmed_at timestamptz;
ALTER TABLE login_tokens ADD COLUMN sign_on bigint;
ALTER TABLE oauth_codes ADD COLUMN sign_on bigint;
ALTER TABLE oauth_device_codes ADD COLUMN sign_on bigint;
