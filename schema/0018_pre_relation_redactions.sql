-- Redactions that go on to what relates to the event (MSC3912). Children up to `upto`
-- have been looked at; those that come later are as well, for some days.
CREATE TABLE relation_redactions (
    room_nid bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,        -- of the parent
    user_id text COLLATE "C" NOT NULL,         -- who redacts
    admin boolean NOT NULL,
    rel_types text[] COLLATE "C" NOT NULL,
    content text COLLATE "C" NOT NULL,         -- of the redactions, JSON
    upto bigint NOT NULL DEFAULT -9223372036854775807,
    claimed_until timestamptz NOT NULL,        -- somebody is at it
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room_nid, event_id, user_id)
);
CREATE INDEX relation_redactions_created ON relation_redactions (created_at);
