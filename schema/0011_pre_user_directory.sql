-- Finding people by what they are called.
CREATE TABLE user_directory (
    user_id text COLLATE "C" PRIMARY KEY,
    display_name text COLLATE "C",
    avatar_url text COLLATE "C",
    local boolean NOT NULL,
    name text COLLATE "C" NOT NULL,            -- the display name, folded
    words tsvector NOT NULL,
    triples tsvector NOT NULL                  -- of letters
);
CREATE INDEX user_directory_words ON user_directory USING gin (words);
CREATE INDEX user_directory_triples ON user_directory USING gin (triples);

-- Up to which positions memberships and profiles are in it.
CREATE TABLE directory_progress (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    members bigint NOT NULL,
    profiles bigint NOT NULL
);

CREATE INDEX memberships_moved ON memberships (position);
