-- Rooms that we joined without their members, which are fetched in the background.
CREATE TABLE partial_rooms (
    room_nid bigint PRIMARY KEY,
    join_nid bigint NOT NULL,                  -- our join: the members before it lack
    servers text[] COLLATE "C" NOT NULL,       -- that were in the room, the best first
    tries integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now()  -- nobody tries before: lease and back-off
);
