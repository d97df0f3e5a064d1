-- Where a file is: in which store, and under which name there. NULL: under the hex form
-- of its SHA-256, as all files on the disk were.
ALTER TABLE media_files
    ADD COLUMN store text COLLATE "C" NOT NULL DEFAULT 'disk',
    ADD COLUMN key text COLLATE "C";
CREATE UNIQUE INDEX media_files_place ON media_files (store, key);
