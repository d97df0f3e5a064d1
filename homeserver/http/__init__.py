"""HTTP: from a socket to an endpoint function and back.

- `routes`: the `@route` decorator; `trie` finds a route by path; `dispatch` is what a
  request goes through: route, authentication, limit, body, endpoint, errors.
- `auth`: the kinds of authentication; the functions that do them stand further down in
  the tree (accounts, server_keys) and are handed in by `app.py`.
- `requests`: what an endpoint reads from; `bodies` parses JSON; `replies` is what it
  may return.
- `limits`: token buckets; `gate`: how much is under way, and the end of it at a
  shutdown; `metrics`: what Prometheus reads.
- `protocol`: the connection, with time-outs; `server`: listeners and TLS; `addresses`:
  who asks when a proxy stands in between.
- `client_api`, `server_api`, `metrics_api`: endpoints about the server as such:
  versions, capabilities, `.well-known`, metrics; `well_known` says where it is.

No tables.
"""
