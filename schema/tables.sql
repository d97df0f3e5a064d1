-- The whole schema of Hearth. Fresh databases get this file; older ones the numbered
-- steps beside it; a test keeps both the same.
--
-- Conventions: every text column is COLLATE "C", so the database's locale never
-- matters. `*_nid` are interned numbers of rooms, events, state keys and state nodes.
-- `position` is a place in the one sequence that everything a client can sync shares.
-- Text that may hold U+0000 is escaped (homeserver/db/rows.py).

-- ── Numbers ──────────────────────────────────────────────────────────────────────

-- Each call hands a process a block of numbers (INCREMENT), which it deals out itself.
CREATE SEQUENCE room_nids INCREMENT 16;
CREATE SEQUENCE event_nids INCREMENT 1024;
CREATE SEQUENCE key_nids INCREMENT 64;
CREATE SEQUENCE node_nids INCREMENT 1024;

-- The one row that orders everything. It is updated first in every committing
-- transaction, so positions become visible in order and without gaps.
CREATE TABLE sequencer (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,
    trimmed_to bigint NOT NULL DEFAULT 0       -- `changes` holds all that came after
) WITH (fillfactor = 10);
INSERT INTO sequencer (position) VALUES (0);

-- Positions of backfilled events: negative, further down each time.
CREATE SEQUENCE backfill_positions INCREMENT -1 START -1 MAXVALUE -1;

-- What happened at each position. Trimmed after an hour.
CREATE TABLE changes (
    position bigint PRIMARY KEY,
    kind smallint NOT NULL,            -- homeserver/live/changes.py: Kind
    room_nid bigint,
    user_id text COLLATE "C",
    ref bigint,                        -- an event_nid, or what the kind says
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX changes_at ON changes USING brin (at);

-- Work that any process may do, held by one at a time.
CREATE TABLE leases (
    name text COLLATE "C" PRIMARY KEY,
    holder text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL
);

-- ── Rooms, events, state ─────────────────────────────────────────────────────────
--
-- No foreign keys here: only the committer and few bulk writers write these tables, and
-- checking each row would cost a third of the time of storing an event.

CREATE TABLE rooms (
    room_nid bigint PRIMARY KEY,
    room_id text COLLATE "C" NOT NULL UNIQUE,
    version text COLLATE "C" NOT NULL,
    -- The event_nid written last; a writer updates it only from the value it has read.
    guard bigint NOT NULL DEFAULT 0,
    last_position bigint NOT NULL DEFAULT 0,   -- of its newest event
    depth bigint NOT NULL DEFAULT 0,           -- the greatest
    state_root bigint NOT NULL DEFAULT 0,      -- current state; 0 is the empty map
    extremities bigint[] NOT NULL DEFAULT '{}' -- forward extremities, event_nids
);

-- A pair (type, state_key), interned.
CREATE TABLE state_keys (
    key_nid bigint PRIMARY KEY,
    type text COLLATE "C" NOT NULL,
    state_key text COLLATE "C" NOT NULL,
    UNIQUE (type, state_key)
);

-- Metadata of an event. `position` is NULL for outliers: events known only because
-- others rest on them, or not yet visible. `state_before` is the root of the room state
-- before it by its prev_events, `state_after` with it applied, `room_state` the root of
-- the room's current state once it was stored.
CREATE TABLE events (
    event_nid bigint PRIMARY KEY,
    event_id text COLLATE "C" NOT NULL UNIQUE,
    room_nid bigint NOT NULL,
    position bigint,
    depth bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    key_nid bigint,      -- NULL: not a state event
    sender text COLLATE "C" NOT NULL,
    origin_server_ts bigint NOT NULL,          -- milliseconds
    prev_nids bigint[] NOT NULL,               -- those that are known
    auth_nids bigint[] NOT NULL,
    state_before bigint,
    state_after bigint,
    room_state bigint,
    rejected text COLLATE "C",                 -- why, when it is rejected
    soft_failed boolean NOT NULL DEFAULT false,
    redacted_by bigint,                        -- event_nid of the redaction
    outgoing boolean NOT NULL DEFAULT false,   -- ours, to be sent to the room's servers
    txn_device text COLLATE "C",               -- the device that sent it, and
    txn_id text COLLATE "C",                   -- under which transaction ID
    relates_to text COLLATE "C",               -- the event_id of its parent, and
    rel_type text COLLATE "C",                 -- what it is to that
    pruned boolean NOT NULL DEFAULT false      -- its time is over, its content gone
);
CREATE UNIQUE INDEX events_position ON events (room_nid, position)
    WHERE position IS NOT NULL;
CREATE INDEX events_depth ON events (room_nid, depth, position)
    WHERE position IS NOT NULL;
CREATE INDEX events_state ON events (room_nid, key_nid, position)
    WHERE key_nid IS NOT NULL AND position IS NOT NULL;
CREATE INDEX events_outgoing ON events (room_nid, position) WHERE outgoing;
CREATE UNIQUE INDEX events_txn ON events (sender, txn_device, room_nid, type, txn_id)
    WHERE txn_id IS NOT NULL;
-- The children of an event; and those that are told with it, by room.
CREATE INDEX events_children ON events (relates_to, depth, position)
    WHERE relates_to IS NOT NULL AND position IS NOT NULL AND redacted_by IS NULL;
CREATE INDEX events_bundled
    ON events (room_nid, rel_type, relates_to, depth, position)
    WHERE rel_type IN ('m.replace', 'm.thread', 'm.reference')
      AND position IS NOT NULL AND redacted_by IS NULL;

-- The event as signed, without `unsigned`: canonical JSON as received.
CREATE TABLE event_json (
    event_nid bigint PRIMARY KEY,
    json text COLLATE "C" NOT NULL
);

-- prev_events that we do not have: where history can be fetched from others.
CREATE TABLE backward_edges (
    room_nid bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,        -- the missing one
    child_nid bigint NOT NULL,
    PRIMARY KEY (room_nid, event_id, child_nid)
);

-- Rooms that we joined without their members, which are fetched in the background.
CREATE TABLE partial_rooms (
    room_nid bigint PRIMARY KEY,
    join_nid bigint NOT NULL,                  -- our join: the members before it lack
    servers text[] COLLATE "C" NOT NULL,       -- that were in the room, the best first
    tries integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(), -- nobody tries before: lease and back-off
    whole_root bigint                          -- the state before it, once all is here
);

-- Changes of state that state resolution undid, for whoever wonders: the newest of each
-- room.
CREATE TABLE state_reversals (
    reversal_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_nid bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    lost_nid bigint NOT NULL,     -- the event that has lost its place in the state
    won_nid bigint,               -- the one that has it now; NULL: none
    by_nid bigint NOT NULL,       -- the event with whose arrival that came about
    refused text COLLATE "C"      -- why the rules refused it; NULL: the order decided
);
CREATE INDEX state_reversals_room ON state_reversals (room_nid, reversal_nid);

-- Events that were pushed while a key that they are signed with was not to be had.
CREATE TABLE unverified_events (
    room_nid bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,             -- the server that pushed it
    server text COLLATE "C" NOT NULL,             -- the server whose key is lacking
    json text COLLATE "C" NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,                  -- nobody tries before
    PRIMARY KEY (room_nid, event_id)
);

CREATE INDEX unverified_events_by_origin ON unverified_events (origin);

CREATE INDEX unverified_events_by_server ON unverified_events (server, received_at);

CREATE INDEX unverified_events_by_due ON unverified_events (due_at);

-- Redactions whose target had not arrived, or did not allow them.
CREATE TABLE redactions (
    event_nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    redacts text COLLATE "C" NOT NULL
);
CREATE INDEX redactions_redacts ON redactions (redacts);

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

-- Nodes of the persistent state maps (homeserver/state/tree.py). Never updated.
CREATE TABLE state_nodes (
    node_nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE state_nodes ALTER COLUMN data SET STORAGE MAIN;
CREATE INDEX state_nodes_room ON state_nodes (room_nid);

CREATE TABLE current_state (
    room_nid bigint NOT NULL,
    key_nid bigint NOT NULL,
    event_nid bigint NOT NULL,
    PRIMARY KEY (room_nid, key_nid)
);

-- Current membership of each user that was ever in a room.
CREATE TABLE memberships (
    room_nid bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    membership text COLLATE "C" NOT NULL,
    event_nid bigint NOT NULL,
    position bigint NOT NULL,
    local boolean NOT NULL,
    forgotten boolean NOT NULL DEFAULT false,
    PRIMARY KEY (room_nid, user_id)
);
CREATE INDEX memberships_local_user ON memberships (user_id) WHERE local;
CREATE INDEX memberships_joined ON memberships (user_id) WHERE membership = 'join';
CREATE INDEX memberships_position ON memberships (room_nid, position);
CREATE INDEX memberships_moved ON memberships (position);

-- What an invited or knocking local user may see of a room: a JSON list.
CREATE TABLE stripped_state (
    room_nid bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    PRIMARY KEY (room_nid, user_id)
);

-- How many joined users each other server has in a room; `since` is the position from
-- which on it gets the room's events.
CREATE TABLE room_servers (
    room_nid bigint NOT NULL,
    server_name text COLLATE "C" NOT NULL,
    joined integer NOT NULL,
    since bigint NOT NULL,
    PRIMARY KEY (room_nid, server_name)
);
CREATE INDEX room_servers_server ON room_servers (server_name);

-- ── Accounts ─────────────────────────────────────────────────────────────────────

CREATE TABLE users (
    user_id text COLLATE "C" PRIMARY KEY,
    password_hash text COLLATE "C",
    admin boolean NOT NULL DEFAULT false,
    deactivated boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    guest boolean NOT NULL DEFAULT false,
    locked boolean NOT NULL DEFAULT false,
    suspended boolean NOT NULL DEFAULT false,
    erased boolean NOT NULL DEFAULT false,     -- what they said is not for newcomers
    approved boolean NOT NULL DEFAULT true,
    terms text COLLATE "C"                     -- the version that was accepted
);
CREATE INDEX users_guest ON users (user_id) WHERE guest;
CREATE INDEX users_erased ON users (user_id) WHERE erased;
CREATE INDEX users_unapproved ON users (created_at) WHERE NOT approved;
CREATE INDEX users_bcrypt ON users (substr(password_hash, 5, 2))
    WHERE password_hash LIKE '$2%';

-- Users who have deactivated their accounts and are still in rooms.
CREATE TABLE farewells (
    user_id text COLLATE "C" PRIMARY KEY REFERENCES users,
    tries integer NOT NULL DEFAULT 0,
    claimed_until timestamptz
);

CREATE TABLE devices (
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    device_id text COLLATE "C" NOT NULL,
    display_name text COLLATE "C",
    last_seen_at timestamptz,
    last_seen_ip text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    keys_position bigint NOT NULL DEFAULT 0,   -- when its one-time keys moved last
    PRIMARY KEY (user_id, device_id)
);

CREATE TABLE access_tokens (
    token_hash bytea PRIMARY KEY,              -- SHA-256 of the token
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    expires_at timestamptz,
    refresh_hash bytea,                        -- of the refresh token given out with it
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX access_tokens_device ON access_tokens (user_id, device_id);

-- `replaces` is the one before it, good until this one or its access token is used.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    replaces bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_id, device_id);
CREATE INDEX refresh_tokens_replaces ON refresh_tokens (replaces)
    WHERE replaces IS NOT NULL;

-- Refresh tokens that were replaced: whoever still has one may have stolen it.
CREATE TABLE spent_refresh_tokens (
    token_hash bytea PRIMARY KEY,              -- SHA-256
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    spent_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX spent_refresh_tokens_device ON spent_refresh_tokens (user_id, device_id);
CREATE INDEX spent_refresh_tokens_spent ON spent_refresh_tokens (spent_at);

CREATE TABLE login_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    expires_at timestamptz NOT NULL,
    sign_on bigint                             -- the log-in elsewhere that it is due to
);

-- By which other services learn who somebody is.
CREATE TABLE openid_tokens (
    token_hash bytea PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    expires_at timestamptz NOT NULL
);

CREATE TABLE registration_tokens (
    token text COLLATE "C" PRIMARY KEY,
    uses_allowed integer,
    pending integer NOT NULL DEFAULT 0,
    completed integer NOT NULL DEFAULT 0,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- User-interactive authentication under way.
CREATE TABLE uia_sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    operation text COLLATE "C" NOT NULL,
    user_id text COLLATE "C",
    completed text[] COLLATE "C" NOT NULL DEFAULT '{}',
    details text COLLATE "C" NOT NULL DEFAULT '{}',  -- JSON
    created_at timestamptz NOT NULL DEFAULT now(),
    flows text COLLATE "C" NOT NULL DEFAULT '[]'     -- JSON
);

-- E-mail addresses (small letters) and phone numbers (digits) of accounts.
CREATE TABLE user_threepids (
    medium text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    validated_ms bigint NOT NULL,
    added_ms bigint NOT NULL,
    PRIMARY KEY (medium, address)
);
CREATE INDEX user_threepids_user ON user_threepids (user_id);

-- Addresses that were bound at identity servers through us, to be unbound there.
CREATE TABLE threepid_bindings (
    user_id text COLLATE "C" NOT NULL,
    medium text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    id_server text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, medium, address, id_server)
);

-- Addresses being validated. Of secrets and tokens only hashes are kept.
CREATE TABLE threepid_sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    purpose text COLLATE "C" NOT NULL,
    medium text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    secret_hash bytea NOT NULL,
    send_attempt bigint NOT NULL,
    token_hash bytea NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    next_link text COLLATE "C",
    validated_at timestamptz,
    expires_at timestamptz NOT NULL,
    UNIQUE (purpose, medium, address, secret_hash)
);
CREATE INDEX threepid_sessions_expires ON threepid_sessions (expires_at);

-- E-mails and text messages that are not sent yet; those sent are deleted.
CREATE TABLE outbox (
    message_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    medium text COLLATE "C" NOT NULL,
    recipient text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    plain text COLLATE "C" NOT NULL,
    html text COLLATE "C" NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    unsubscribe text COLLATE "C" NOT NULL DEFAULT ''  -- the address for that, if any
);
CREATE INDEX outbox_due ON outbox (due_at);

-- room_nid 0: the user's own, not of a room. What was deleted has the content `{}`.
CREATE TABLE account_data (
    user_id text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    content text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, room_nid, type)
);
CREATE INDEX account_data_position ON account_data (user_id, position);

CREATE TABLE filters (
    user_id text COLLATE "C" NOT NULL,
    filter_id bigint NOT NULL,
    filter text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, filter_id)
);

-- One row a profile field; value is JSON, `null` of a field that was removed.
CREATE TABLE profiles (
    user_id text COLLATE "C" NOT NULL,
    field text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, field)
);
CREATE INDEX profiles_position ON profiles (position) WHERE position > 0;

-- Users whose rooms are to be told what they are called now, since a position.
CREATE TABLE profile_tellings (
    user_id text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    claimed_until timestamptz
);

-- Everybody in a room that we know, and users of ours, by what they are called
-- (homeserver/people/words.py).
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

-- ── OAuth ────────────────────────────────────────────────────────────────────────

-- OAuth 2.0: clients, what they were granted, and the browsers that people log in with.
CREATE TABLE oauth_clients (
    client_id text COLLATE "C" PRIMARY KEY,    -- made from the metadata
    metadata text COLLATE "C" NOT NULL,        -- JSON
    registered_at timestamptz NOT NULL DEFAULT now()
);

-- A code is kept a while after its use, so that a second use is noticed.
CREATE TABLE oauth_codes (
    code_hash bytea PRIMARY KEY,               -- SHA-256
    client_id text COLLATE "C" NOT NULL REFERENCES oauth_clients ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    device_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    redirect_uri text COLLATE "C" NOT NULL,
    challenge text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    used boolean NOT NULL DEFAULT false,
    sign_on bigint
);
CREATE INDEX oauth_codes_expires ON oauth_codes (expires_at);

-- Devices that wait for their user to allow them on another one (RFC 8628).
CREATE TABLE oauth_device_codes (
    code_hash bytea PRIMARY KEY,               -- SHA-256
    user_code text COLLATE "C" NOT NULL UNIQUE,
    client_id text COLLATE "C" NOT NULL REFERENCES oauth_clients ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL,
    poll_after timestamptz NOT NULL,           -- who asks before is told to slow down
    user_id text COLLATE "C" REFERENCES users, -- who has answered
    allowed boolean,                           -- what
    sign_on bigint
);
CREATE INDEX oauth_device_codes_expires ON oauth_device_codes (expires_at);

-- Devices whose tokens came from OAuth, and the client that they were given to.
CREATE TABLE oauth_sessions (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    client_id text COLLATE "C" NOT NULL REFERENCES oauth_clients,
    scope text COLLATE "C" NOT NULL,
    code_hash bytea,                           -- of the code that it began with
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX oauth_sessions_client ON oauth_sessions (client_id);

-- Browsers in which somebody is logged in, by the hash of their cookie.
CREATE TABLE browser_sessions (
    cookie_hash bytea PRIMARY KEY,             -- SHA-256
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    password_print bytea NOT NULL,             -- another password ends the session
    created_at timestamptz NOT NULL DEFAULT now(),
    sign_on bigint,
    confirmed_at timestamptz                   -- shown elsewhere once more who it is
);
CREATE INDEX browser_sessions_user ON browser_sessions (user_id);
CREATE INDEX browser_sessions_created ON browser_sessions (created_at);

-- Users who have just allowed that their cross-signing keys be replaced.
CREATE TABLE cross_signing_resets (
    user_id text COLLATE "C" PRIMARY KEY REFERENCES users,
    expires_at timestamptz NOT NULL
);

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

-- ── Single sign-on ───────────────────────────────────────────────────────────────

-- Accounts of ours and those elsewhere that they belong to.
CREATE TABLE sign_on_links (
    provider text COLLATE "C" NOT NULL,        -- its ID in the configuration
    subject text COLLATE "C" NOT NULL,         -- who it is there
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    linked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, subject)
);
CREATE INDEX sign_on_links_user ON sign_on_links (user_id);

-- Browsers that were sent to a provider and have not come back yet.
CREATE TABLE sign_on_requests (
    state_hash bytea PRIMARY KEY,              -- SHA-256
    provider text COLLATE "C" NOT NULL,
    browser bytea NOT NULL,                    -- the hash of its cookie
    secrets text COLLATE "C" NOT NULL,         -- JSON: what the answer must fit
    purpose text COLLATE "C" NOT NULL,         -- JSON: what it is for
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_on_requests_expires ON sign_on_requests (expires_at);

-- Browsers that have come back with somebody whom nobody here knows yet.
CREATE TABLE sign_on_arrivals (
    browser bytea PRIMARY KEY,                 -- the hash of its cookie
    identity text COLLATE "C" NOT NULL,        -- JSON
    onward text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_on_arrivals_expires ON sign_on_arrivals (expires_at);

-- Log-ins through a provider, which may end there (back-channel logout).
CREATE TABLE sign_ons (
    sign_on bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    sid text COLLATE "C" NOT NULL,             -- the session there; may be empty
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sign_ons_subject ON sign_ons (provider, subject);
CREATE INDEX sign_ons_sid ON sign_ons (provider, sid);
CREATE INDEX sign_ons_created ON sign_ons (created_at);

-- Devices that began with one.
CREATE TABLE sign_on_devices (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    sign_on bigint NOT NULL REFERENCES sign_ons ON DELETE CASCADE,
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX sign_on_devices_sign_on ON sign_on_devices (sign_on);

-- Tokens of others that are good once, until they run out by themselves.
CREATE TABLE sign_on_used (
    token_hash bytea PRIMARY KEY,              -- SHA-256
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_on_used_expires ON sign_on_used (expires_at);

-- ── In rooms, beside events ──────────────────────────────────────────────────────

CREATE TABLE receipts (
    room_nid bigint NOT NULL REFERENCES rooms,
    user_id text COLLATE "C" NOT NULL,
    receipt_type text COLLATE "C" NOT NULL,
    thread_id text COLLATE "C" NOT NULL,       -- '' when unthreaded
    event_id text COLLATE "C" NOT NULL,
    ts bigint NOT NULL,                        -- milliseconds
    position bigint NOT NULL,
    local boolean NOT NULL,
    PRIMARY KEY (room_nid, user_id, receipt_type, thread_id)
);
CREATE INDEX receipts_position ON receipts (room_nid, position);

-- Which threads users follow (MSC4306). A row stays when they follow it no longer.
CREATE TABLE thread_subscriptions (
    user_id text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL REFERENCES rooms,
    thread_id text COLLATE "C" NOT NULL,       -- the event_id of its root
    subscribed boolean NOT NULL,
    automatic boolean NOT NULL,                -- by a client, not by the user
    position bigint NOT NULL,
    PRIMARY KEY (user_id, room_nid, thread_id)
);
CREATE INDEX thread_subscriptions_position ON thread_subscriptions (user_id, position);

CREATE UNLOGGED TABLE typing (
    room_nid bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (room_nid, user_id)
);

-- How people are (homeserver/presence/states.py: ranks), and since when; as they were
-- told last. `position` is when what others see of them changed.
CREATE UNLOGGED TABLE presence (
    user_id text COLLATE "C" PRIMARY KEY,
    rank smallint NOT NULL,
    status text COLLATE "C",
    last_active timestamptz,
    currently_active boolean NOT NULL,
    position bigint NOT NULL,
    local boolean NOT NULL,
    told_at timestamptz NOT NULL
);
CREATE INDEX presence_position ON presence (position);
CREATE INDEX presence_there ON presence (told_at) WHERE rank > 0;

-- What each device of our users says, as long as it is there.
CREATE UNLOGGED TABLE presence_devices (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    rank smallint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

CREATE TABLE room_aliases (
    alias text COLLATE "C" PRIMARY KEY,
    room_id text COLLATE "C" NOT NULL,
    creator text COLLATE "C" NOT NULL
);
CREATE INDEX room_aliases_room ON room_aliases (room_id);

CREATE TABLE published_rooms (
    room_nid bigint PRIMARY KEY REFERENCES rooms
);

-- ── Federation ───────────────────────────────────────────────────────────────────

-- Keys of other servers, as last seen; never deleted, old events need them.
CREATE TABLE server_keys (
    server_name text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    public_key bytea NOT NULL,
    valid_until bigint NOT NULL,               -- milliseconds; when retired: expired_ts
    retired boolean NOT NULL DEFAULT false,
    document text COLLATE "C" NOT NULL,        -- signed key document, for notary replies
    fetched_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (server_name, key_id)
);

-- Transactions answered, so that a repetition gets the same answer.
CREATE TABLE received_transactions (
    origin text COLLATE "C" NOT NULL,
    txn_id text COLLATE "C" NOT NULL,
    response text COLLATE "C" NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (origin, txn_id)
);
CREATE INDEX received_transactions_at ON received_transactions USING brin (received_at);

-- One durable cursor per destination: everything outgoing up to `position` was sent.
CREATE TABLE destinations (
    server_name text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    failing_since timestamptz,                 -- NULL: reachable
    retry_at timestamptz,
    retry_interval interval,
    holder text COLLATE "C",                   -- the process that sends to it now
    until timestamptz                          -- and how long it may
);

-- Events for a server that is no longer (or not yet) in the room after them.
CREATE TABLE outgoing_events (
    server_name text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    event_nid bigint NOT NULL REFERENCES events,
    PRIMARY KEY (server_name, position, event_nid)
);

-- EDUs that must not be lost; typing and presence never come here.
CREATE TABLE outgoing_edus (
    server_name text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    edu text COLLATE "C" NOT NULL,
    PRIMARY KEY (server_name, position)
);
CREATE INDEX outgoing_edus_position ON outgoing_edus (position);

-- ── Devices and end-to-end encryption ────────────────────────────────────────────

-- When each user's device list moved last, as clients are told; ours and others'.
-- `stream_id` counts the changes of a list of ours, for other servers.
CREATE TABLE device_lists (
    user_id text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    stream_id bigint NOT NULL DEFAULT 0
);
CREATE INDEX device_lists_position ON device_lists (position);

-- Identity keys of our users' devices: JSON as uploaded.
CREATE TABLE device_keys (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    keys text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

-- Each is given out once, the oldest first: those of the lowest position.
CREATE TABLE one_time_keys (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    key text COLLATE "C" NOT NULL,             -- JSON
    claimed_at timestamptz,                    -- kept a while: it must not come back
    PRIMARY KEY (user_id, device_id, algorithm, key_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX one_time_keys_oldest
    ON one_time_keys (user_id, device_id, algorithm, position, key_id)
    WHERE claimed_at IS NULL;

CREATE TABLE fallback_keys (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,             -- JSON
    used boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, device_id, algorithm),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

-- Master, self-signing and user-signing keys of our users: JSON as uploaded.
CREATE TABLE cross_signing_keys (
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    usage text COLLATE "C" NOT NULL,
    public_key text COLLATE "C" NOT NULL,      -- what stands after `ed25519:`
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, usage)
);

-- Signatures that our users put on keys after these were uploaded. `key_id` is a
-- device's ID or the public part of a cross-signing key.
CREATE TABLE key_signatures (
    user_id text COLLATE "C" NOT NULL,         -- whose key is signed
    key_id text COLLATE "C" NOT NULL,
    signer text COLLATE "C" NOT NULL,
    signer_key text COLLATE "C" NOT NULL,      -- such as `ed25519:ABC`
    signature text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (user_id, key_id, signer, signer_key)
);
CREATE INDEX key_signatures_signer ON key_signatures (signer, position);

-- Messages that wait for devices of ours; `content` is JSON.
CREATE TABLE to_device (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    content text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, device_id, position),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX to_device_position ON to_device (position);

-- What was sent already: a transaction of a device of ours, or (with an empty
-- device_id) a message_id of another server's user.
CREATE TABLE to_device_seen (
    sender text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, device_id, id)
);
CREATE INDEX to_device_seen_at ON to_device_seen USING brin (at);

-- Device lists of other servers' users, as far as we follow them. A list is good while
-- it is not `stale`; a stale one is fetched again, when its time has come.
CREATE TABLE remote_device_lists (
    user_id text COLLATE "C" PRIMARY KEY,
    stream_id bigint NOT NULL,
    stale boolean NOT NULL,
    generation bigint NOT NULL DEFAULT 0,      -- of what was told of it
    retry_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    master_key text COLLATE "C",
    self_signing_key text COLLATE "C"
);
CREATE INDEX remote_device_lists_stale ON remote_device_lists (retry_at) WHERE stale;

CREATE TABLE remote_devices (
    user_id text COLLATE "C" NOT NULL
        REFERENCES remote_device_lists ON DELETE CASCADE,
    device_id text COLLATE "C" NOT NULL,
    keys text COLLATE "C" NOT NULL,
    display_name text COLLATE "C",
    PRIMARY KEY (user_id, device_id)
);

CREATE TABLE key_backups (
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    version bigint NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    auth_data text COLLATE "C" NOT NULL,       -- JSON
    etag bigint NOT NULL DEFAULT 0,
    count bigint NOT NULL DEFAULT 0,
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, version)
);

CREATE TABLE key_backup_sessions (
    user_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    first_message_index bigint NOT NULL,
    forwarded_count bigint NOT NULL,
    is_verified boolean NOT NULL,
    session_data text COLLATE "C" NOT NULL,    -- JSON
    PRIMARY KEY (user_id, version, room_id, session_id),
    FOREIGN KEY (user_id, version) REFERENCES key_backups ON DELETE CASCADE
);

-- ── Push ─────────────────────────────────────────────────────────────────────────

-- What users changed of their push rules (homeserver/push/rules.py), as JSON, each time
-- they did: an event is judged by the rules of its time.
CREATE TABLE push_rules (
    user_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    changes text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, position)
);

-- What events after one position, up to and with another, mean to members with default
-- rules (homeserver/push/digests.py). It can be made anew from the events at any time.
CREATE TABLE push_pages (
    room_nid bigint NOT NULL REFERENCES rooms,
    after bigint NOT NULL,
    last bigint NOT NULL,
    digests text COLLATE "C" NOT NULL,         -- JSON
    PRIMARY KEY (room_nid, last, after)
);

-- Counts of users with rules of their own, so that a long way need not be gone again:
-- what is unread between two positions. It can be made anew as well.
CREATE TABLE push_tallies (
    user_id text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL REFERENCES rooms,
    marks text COLLATE "C" NOT NULL,           -- how far was read, as JSON
    upto bigint NOT NULL,
    counts text COLLATE "C" NOT NULL,          -- JSON, by thread
    PRIMARY KEY (room_nid, user_id)
);

-- Where users are to be told of events. Everything up to `position` has been told.
CREATE TABLE pushers (
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    app_id text COLLATE "C" NOT NULL,
    pushkey text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    app_display_name text COLLATE "C" NOT NULL,
    device_display_name text COLLATE "C" NOT NULL,
    profile_tag text COLLATE "C",
    lang text COLLATE "C" NOT NULL,
    data text COLLATE "C" NOT NULL,            -- JSON
    device_id text COLLATE "C",                -- the device that set it
    ts bigint NOT NULL,                        -- when, in seconds
    position bigint NOT NULL,
    failures integer NOT NULL DEFAULT 0,       -- of the gateway, one after the other
    retry_at timestamptz,
    holder text COLLATE "C",                   -- the process that sends for it now
    until timestamptz,                         -- and how long it may
    enabled boolean NOT NULL DEFAULT true,
    counts boolean NOT NULL DEFAULT true,      -- false: not told of badges (MSC4076)
    activated boolean NOT NULL DEFAULT true,   -- false: Web Push, not acknowledged yet
    token text COLLATE "C",                    -- with it a client acknowledges, or the
                                               -- reader of an e-mail unsubscribes
    token_until timestamptz,
    token_sent boolean NOT NULL DEFAULT true,
    PRIMARY KEY (user_id, app_id, pushkey),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX pushers_pushkey ON pushers (app_id, pushkey);
CREATE INDEX pushers_retry ON pushers (retry_at) WHERE retry_at IS NOT NULL;
CREATE UNIQUE INDEX pushers_token ON pushers (token);
CREATE INDEX pushers_held ON pushers (until) WHERE holder IS NOT NULL;

-- When a pusher last sent an e-mail about a room, and how long it then keeps silent.
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

-- The key that Web Push services know this server by (RFC 8292): P-256, 32 bytes; and
-- as clients are told of it: uncompressed, 65 bytes.
CREATE TABLE vapid_key (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    private_key bytea NOT NULL,
    public_key bytea NOT NULL
);

-- ── Sliding sync ─────────────────────────────────────────────────────────────────

-- What a client has got over each of its connections: the state of the answer given
-- last, and the one before, which counts until the client comes with the newer's token.
CREATE TABLE sliding_connections (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    conn_id text COLLATE "C" NOT NULL,
    older text COLLATE "C",
    older_state bytea,
    newer text COLLATE "C" NOT NULL,
    newer_state bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, device_id, conn_id),
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
CREATE INDEX sliding_connections_used ON sliding_connections (used_at);

-- A device that is never seen, which receives while its user is away (MSC3814).
CREATE TABLE dehydrated_devices (
    user_id text COLLATE "C" PRIMARY KEY,
    device_id text COLLATE "C" NOT NULL,
    device_data text COLLATE "C" NOT NULL,     -- JSON
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);

-- ── Delayed events ───────────────────────────────────────────────────────────────

-- What users scheduled to be sent later (MSC4140). Waiting until `finalised_at`: then it
-- was sent (event_id), could not be sent (error, JSON), or was cancelled.
CREATE TABLE delayed_events (
    delay_id text COLLATE "C" PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL REFERENCES users,
    room_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    state_key text COLLATE "C",                -- NULL: not a state event
    content text COLLATE "C" NOT NULL,         -- JSON
    delay_ms bigint NOT NULL,
    sticky_ms bigint,
    origin_server_ts bigint,                   -- NULL: when it is sent
    device_id text COLLATE "C",                -- who scheduled it, and
    txn_id text COLLATE "C",                   -- under which transaction ID
    scheduled_at timestamptz NOT NULL,         -- or restarted
    send_at timestamptz NOT NULL,
    claimed_until timestamptz,                 -- somebody is sending it
    finalised_at timestamptz,
    event_id text COLLATE "C",
    error text COLLATE "C"
);
CREATE INDEX delayed_events_due ON delayed_events (send_at)
    WHERE finalised_at IS NULL;
CREATE INDEX delayed_events_user ON delayed_events (user_id, send_at)
    WHERE finalised_at IS NULL;
CREATE INDEX delayed_events_claimed ON delayed_events (room_id)
    WHERE claimed_until IS NOT NULL AND finalised_at IS NULL;
CREATE INDEX delayed_events_finalised ON delayed_events (finalised_at)
    WHERE finalised_at IS NOT NULL;
CREATE UNIQUE INDEX delayed_events_txn
    ON delayed_events (user_id, device_id, room_id, type, txn_id)
    WHERE txn_id IS NOT NULL;

-- ── Sticky events ────────────────────────────────────────────────────────────────

-- Events that are sticky (MSC4354), until `until_ms`. A position of their own: clients
-- are told of them there. NULL: soft-failed.
CREATE TABLE sticky_events (
    event_nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    position bigint,
    until_ms bigint NOT NULL                   -- milliseconds
);
CREATE INDEX sticky_events_room ON sticky_events (room_nid, position);
CREATE INDEX sticky_events_until ON sticky_events (until_ms);
CREATE INDEX sticky_events_waiting ON sticky_events (room_nid)
    WHERE position IS NULL;

-- ── Reports ──────────────────────────────────────────────────────────────────────

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

-- ── Media ────────────────────────────────────────────────────────────────────────

-- Files that are stored, once for each content.
CREATE TABLE media_files (
    sha256 bytea PRIMARY KEY,
    size bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    store text COLLATE "C" NOT NULL DEFAULT 'disk',
    key text COLLATE "C"                       -- NULL: the hex form of `sha256`
);
CREATE UNIQUE INDEX media_files_place ON media_files (store, key);

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

-- ── Search ───────────────────────────────────────────────────────────────────────

-- Which words stand in which events (homeserver/search). It can be made anew from the
-- events at any time.
CREATE TABLE search_index (
    event_nid bigint PRIMARY KEY,
    room_nid bigint NOT NULL,
    position bigint NOT NULL,
    key smallint NOT NULL,                     -- homeserver/search/store.py: KEYS
    sender text COLLATE "C" NOT NULL,
    length integer NOT NULL,                   -- words of the text
    words tsvector NOT NULL
);
-- What was not yet sorted into it is gone through by every search: kept short.
CREATE INDEX search_index_words ON search_index USING gin (words)
    WITH (gin_pending_list_limit = 128);
CREATE INDEX search_index_position ON search_index (position);

-- How far the index goes. While `scan_nid` is there, older events are still put in.
CREATE TABLE search_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,
    scan_nid bigint
);

-- What pages said of themselves, for a while.
CREATE TABLE url_previews (
    url_hash bytea PRIMARY KEY,                -- SHA-256
    preview text COLLATE "C" NOT NULL,         -- JSON
    found_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX url_previews_found ON url_previews (found_at);

-- ── Application services ─────────────────────────────────────────────────────────

CREATE TABLE appservices (
    service_id text COLLATE "C" PRIMARY KEY,
    registration text COLLATE "C" NOT NULL,    -- JSON, with its tokens
    active boolean NOT NULL,
    position bigint NOT NULL,                  -- everything up to it has been told
    txn bigint NOT NULL DEFAULT 0,             -- the number of the newest transaction
    pending text COLLATE "C",                  -- its JSON, until it was answered, and
    pending_upto bigint,                       -- the position that it reaches to
    failures integer NOT NULL DEFAULT 0,
    retry_at timestamptz,
    holder text COLLATE "C",                   -- the process that tells it, and
    until timestamptz,                         -- until when, unless it renews that
    by_admin boolean NOT NULL DEFAULT false    -- it comes from no file
);
CREATE TABLE appservice_rooms (
    service_id text COLLATE "C" NOT NULL,
    network_id text COLLATE "C" NOT NULL,
    room_nid bigint NOT NULL,
    PRIMARY KEY (service_id, network_id, room_nid)
);
