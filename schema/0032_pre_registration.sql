-- Which version of the terms a user accepted when the account was made.
ALTER TABLE users ADD COLUMN terms text COLLATE "C";

-- Names for registration tokens are looked up in the order in which they were made.
ALTER TABLE registration_tokens
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();
