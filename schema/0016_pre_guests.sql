-- Guests: accounts without a password that may do little.
ALTER TABLE users ADD COLUMN guest boolean NOT NULL DEFAULT false;
CREATE INDEX users_guest ON users (user_id) WHERE guest;
