-- The members of a room that we joined may be at hand already: their state's root.
ALTER TABLE partial_rooms ADD COLUMN whole_root bigint;
