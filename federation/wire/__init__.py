"""The wire: discovery, signed HTTP and calls; the only I/O in `federation`.

From below: `addresses` says which IP addresses may be reached, `dns` looks names up,
`transport` sends one request to one address, `well_known` and `discovery` turn a server
name into addresses, `slots` and `backoff` say when to wait, `client` puts them together
into signed requests, and `calls`, `calls_rooms`, `calls_queries` and `keys` hold one
function for each operation of the server-server API.
"""
