-- Search.

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
CREATE INDEX search_index_words ON search_index USING gin (words);

-- How far the index goes. While `scan_nid` is there, older events are still put in.
CREATE TABLE search_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,
    scan_nid bigint
);
