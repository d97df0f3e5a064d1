-- A server that comes into a room may need several events at one position.
ALTER TABLE outgoing_events
    DROP CONSTRAINT outgoing_events_pkey,
    ADD PRIMARY KEY (server_name, position, event_nid);
