-- Whether there are hashes of other servers, and how dear they are to check.
CREATE INDEX users_bcrypt ON users (substr(password_hash, 5, 2))
    WHERE password_hash LIKE '$2%';
