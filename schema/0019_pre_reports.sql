-- What users report.
CREATE TABLE reports (
    report_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now(),
    reporter text COLLATE "C" NOT NULL,
    room_id text COLLATE "C",                  -- NULL: a user is reported
    event_id text COLLATE "C",                 -- NULL: a room or user is reported
    user_id text COLLATE "C",                  -- who is reported, or sent the event
    reason text COLLATE "C" NOT NULL,
    score integer
);
