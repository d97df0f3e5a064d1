-- Pushers that are switched off, that wait to be activated (Web Push), or that send
-- e-mails.
ALTER TABLE pushers
    ADD COLUMN enabled boolean NOT NULL DEFAULT true,
    ADD COLUMN counts boolean NOT NULL DEFAULT true,
    ADD COLUMN activated boolean NOT NULL DEFAULT true,
    ADD COLUMN token text COLLATE "C",
    ADD COLUMN token_until timestamptz,
    ADD COLUMN token_sent boolean NOT NULL DEFAULT true;
CREATE UNIQUE INDEX pushers_token ON pushers (token);

CREATE TABLE push_mails (
    user_id text COLLATE "C" NOT NULL,
    app_id text COLLATE "C" NOT NULL,
    pushkey text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now(),
    wait_s integer NOT NULL,
    PRIMARY KEY (user_id, app_id, pushkey, room_nid),
    FOREIGN KEY (user_id, app_id, pushkey) REFERENCES pushers ON DELETE CASCADE
);

CREATE TABLE vapid_key (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    private_key bytea NOT NULL,
    public_key bytea NOT NULL
);

ALTER TABLE outbox ADD COLUMN unsubscribe text COLLATE "C" NOT NULL DEFAULT '';
