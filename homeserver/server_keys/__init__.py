"""Keys: publishing ours, fetching, checking and keeping those of other servers.

Table: server_keys, one row a key, never deleted, since old events need old keys. What
is known stands in `Context.known_keys`; a key that is not known, or not valid long
enough, is looked up in the table, then asked of its server, then of the notaries that
the configuration trusts.

`verify` checks signatures and hashes of events, in threads; `authenticate` the
signature of a request.

Spec: server-server-api#retrieving-server-keys
"""
