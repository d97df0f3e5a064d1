-- Relations between events.

ALTER TABLE events ADD COLUMN relates_to text COLLATE "C";
ALTER TABLE events ADD COLUMN rel_type text COLLATE "C";

-- What is stored already. PostgreSQL cannot take apart JSON with U+0000 in it.
UPDATE events e
   SET relates_to = r.relates_to, rel_type = r.rel_type
  FROM (SELECT event_nid,
               json::json -> 'content' -> 'm.relates_to' ->> 'event_id' AS relates_to,
               json::json -> 'content' -> 'm.relates_to' ->> 'rel_type' AS rel_type
          FROM event_json
         WHERE CASE WHEN json LIKE '%"m.relates_to"%' AND json NOT LIKE '%\u0000%'
                    THEN json_typeof(json::json -> 'content' -> 'm.relates_to')
               END = 'object') AS r
 WHERE e.event_nid = r.event_nid
   AND r.relates_to LIKE '$%' AND r.rel_type <> ''
   AND octet_length(r.relates_to) <= 255 AND octet_length(r.rel_type) <= 255;

-- The children of an event; and those that are told with it, by room.
CREATE INDEX events_children ON events (relates_to, depth, position)
    WHERE relates_to IS NOT NULL AND position IS NOT NULL AND redacted_by IS NULL;
CREATE INDEX events_bundled
    ON events (room_nid, rel_type, relates_to, depth, position)
    WHERE rel_type IN ('m.replace', 'm.thread', 'm.reference')
      AND position IS NOT NULL AND redacted_by IS NULL;
