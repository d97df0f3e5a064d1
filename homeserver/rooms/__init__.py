"""Rooms: building events, accepting those of others, membership, history.

Tables: room_aliases, published_rooms, stripped_state; events and state are written
through `live` and `events`. Positions: events (EVENT), memberships that no room of ours
gave (MEMBERSHIP), forgotten rooms (FORGOTTEN), history that was fetched (BACKFILLED).

- Events of our users: `build` makes them, `send` sends one; `presets` and `create` are
  for those of a new room. `profiles` is what member events say of our users.
- Events of other servers: `receive` takes them in, `checked` and `accept` judge them,
  `missing` fetches what they rest on, `outliers` stores that; `written` passes them on.
- Coming and going: `membership` decides whether we do it alone or with the help of
  others, which is `join` and `remote`, both by `handshake`. `restricted` knows who may
  vouch. `aside` and `stripped` keep what we know of rooms that we are not in.
- Who may read what: `access` for a room, `visibility` for an event (`viewing` loads
  what that needs), `server_visibility` and `acl` for servers.
- History: `timeline` names places in it, `history` reads pages, `backfill` fetches what
  is missing, `members` are those of a place.
- How a room is found: `aliases`, `summaries`.
- Endpoints: `client_api`, `create_api`, `membership_api`, `history_api`, `server_api`.

Whatever changes a room ends in one step for the committer.
"""
