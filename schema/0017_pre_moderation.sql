-- Accounts can be locked, suspended and erased.
ALTER TABLE users
    ADD COLUMN locked boolean NOT NULL DEFAULT false,
    ADD COLUMN suspended boolean NOT NULL DEFAULT false,
    ADD COLUMN erased boolean NOT NULL DEFAULT false;
CREATE INDEX users_erased ON users (user_id) WHERE erased;

-- Users who have deactivated their accounts and are still in rooms.
CREATE TABLE farewells (
    user_id text COLLATE "C" PRIMARY KEY REFERENCES users,
    tries integer NOT NULL DEFAULT 0,
    claimed_until timestamptz
);
