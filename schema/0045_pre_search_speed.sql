-- What was not yet sorted into the index is gone through by every search: keep it short.
ALTER INDEX search_index_words SET (gin_pending_list_limit = 128);
-- For what is said all the time: the newest of it, without looking at the rest.
CREATE INDEX search_index_position ON search_index (position);
