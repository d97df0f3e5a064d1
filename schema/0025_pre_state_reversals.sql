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
