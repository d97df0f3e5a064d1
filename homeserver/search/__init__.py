"""Search in what was said: message texts, names and topics of rooms.

Whoever sends does not wait for it. One process at a time follows what happens (with a
lease and a durable cursor) and writes the index a moment later; a search waits for it
for a short time. The words are made by us (words.py), so that any PostgreSQL will do:
case folded, accents stripped, and pairs of characters where there are no spaces between
words (Chinese, Japanese, Korean, Thai). A word finds all words that begin with it.

What is encrypted is not in there, and what was redacted goes out of it.

Tables: search_index, search_cursor. No positions of its own.

Spec: client-server-api#server-side-search
"""
