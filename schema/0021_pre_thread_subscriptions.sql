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
