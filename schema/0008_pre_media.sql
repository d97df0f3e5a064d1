-- Files, and what is known of them.

-- Files that are stored, once for each content.
CREATE TABLE media_files (
    sha256 bytea PRIMARY KEY,
    size bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
);

-- What mxc URIs stand for: files of our users, and copies of other servers' files.
CREATE TABLE media (
    origin text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C",                  -- who uploads it; NULL: another server's
    sha256 bytea,                              -- NULL: not uploaded yet, or hidden
    size bigint,
    content_type text COLLATE "C",
    filename text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,                    -- until when it may be uploaded
    stored_at timestamptz,
    used_at timestamptz NOT NULL DEFAULT now(),
    protected boolean NOT NULL DEFAULT false,  -- from quarantine of whole rooms or users
    quarantined_by text COLLATE "C",
    PRIMARY KEY (origin, media_id)
);
CREATE INDEX media_sha256 ON media (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX media_user ON media (user_id) INCLUDE (size) WHERE user_id IS NOT NULL;
CREATE INDEX media_pending ON media (expires_at) WHERE sha256 IS NULL;
CREATE INDEX media_cached ON media (used_at) INCLUDE (size)
    WHERE user_id IS NULL AND sha256 IS NOT NULL;

-- Thumbnails by what they show. `sha256` is their own content: that of `source` when it
-- is small enough to be shown as it is.
CREATE TABLE media_thumbnails (
    source bytea NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    method text COLLATE "C" NOT NULL,
    animated boolean NOT NULL,
    sha256 bytea NOT NULL,
    size bigint NOT NULL,
    content_type text COLLATE "C" NOT NULL,
    PRIMARY KEY (source, width, height, method, animated)
);
CREATE INDEX media_thumbnails_sha256 ON media_thumbnails (sha256);

-- Contents that nobody gets, and nobody may upload again.
CREATE TABLE media_blocked (
    sha256 bytea PRIMARY KEY,
    blocked_by text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL DEFAULT '',
    blocked_at timestamptz NOT NULL DEFAULT now()
);

-- What uses a file: an event, a profile, a room's picture, an image pack.
CREATE TABLE media_references (
    origin text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (origin, media_id, kind, key)
);
CREATE INDEX media_references_key ON media_references (kind, key);
