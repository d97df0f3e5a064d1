-- Dehydrated devices.

-- A device that is never seen, which receives while its user is away (MSC3814).
CREATE TABLE dehydrated_devices (
    user_id text COLLATE "C" PRIMARY KEY,
    device_id text COLLATE "C" NOT NULL,
    device_data text COLLATE "C" NOT NULL,     -- JSON
    FOREIGN KEY (user_id, device_id) REFERENCES devices ON DELETE CASCADE
);
