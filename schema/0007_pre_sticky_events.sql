-- Sticky events.

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
