-- What was deleted stays, so that other devices hear of it.
ALTER TABLE account_data ADD COLUMN deleted boolean NOT NULL DEFAULT false;
