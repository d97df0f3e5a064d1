-- Which version of the terms a user accepted when the account was made.
ALTER TABLE users ADD COLUMN terms text COLLATE "C";

-- Names for registration tokens are looked up in the order in which they were made.
ALTER TABLE registration_tokens
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();

-- Refresh tokens that were replaced: whoever still has one may have stolen it.
CREATE TABLE spent_refresh_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    spent_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX spent_refresh_tokens_device ON spent_refresh_tokens (user_id, device_id);
CREATE INDEX spent_refresh_tokens_spent ON spent_refresh_tokens (spent_at);
