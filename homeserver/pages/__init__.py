"""Pages for people: what browsers are shown, in the reader's language, without scripts.

Tables: none.

- `kit` renders a template of `templates/` with the headers that keep a page safe;
- `visitors` knows a browser by its cookie and reads its forms, guarded against forgery;
- `languages` chooses English or German; `german` has the German texts.

A page is an endpoint marked `@route(...)` and then `@kit.page`, so that what it refuses
is told as a page too. Templates of a feature stand in a folder named like it, extend
`base.html`, and say every text as `_("…")`.
"""
