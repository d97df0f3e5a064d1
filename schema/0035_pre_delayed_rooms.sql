-- Rooms to which somebody is sending a delayed event.
CREATE INDEX delayed_events_claimed ON delayed_events (room_id)
    WHERE claimed_until IS NOT NULL AND finalised_at IS NULL;
