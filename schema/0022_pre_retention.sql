-- Events whose content is gone because their time is over (homeserver/retention).
ALTER TABLE events ADD COLUMN pruned boolean NOT NULL DEFAULT false;
