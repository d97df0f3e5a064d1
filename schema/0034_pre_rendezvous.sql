-- Where a device that logs in and one that has meet, for a few minutes (QR codes).
CREATE TABLE rendezvous (
    rendezvous_id text COLLATE "C" PRIMARY KEY,
    kind smallint NOT NULL,                    -- 0: MSC4108, 1: MSC4388
    data bytea NOT NULL,
    turn bigint NOT NULL DEFAULT 0,            -- how often it has been written
    written_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX rendezvous_expires ON rendezvous (expires_at);
