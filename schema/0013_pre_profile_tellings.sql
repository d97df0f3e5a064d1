-- Users whose rooms are to be told what they are called now.
CREATE TABLE profile_tellings (
    user_id text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    claimed_until timestamptz
);
