-- Previews of links.

-- What pages said of themselves, for a while.
CREATE TABLE url_previews (
    url_hash bytea PRIMARY KEY,                -- SHA-256
    preview text COLLATE "C" NOT NULL,         -- JSON
    found_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX url_previews_found ON url_previews (found_at);
