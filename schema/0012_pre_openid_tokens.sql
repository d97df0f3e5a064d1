-- Tokens by which other services learn who somebody is.
CREATE TABLE openid_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    expires_at timestamptz NOT NULL
);
