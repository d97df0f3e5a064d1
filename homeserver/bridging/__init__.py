"""Telling application services what happens, and what they alone may ask.

A service has a durable cursor in the one order of positions: everything up to it has
been told. What comes after is found from what is stored anyway, so nothing is queued,
and sending an event costs nothing more when it interests nobody. One process at a time
tells a service, by a lease in its row; a transaction is kept there as it was sent until
it is answered, so that a repetition is the same. Each service has a task of its own, so
a slow one holds nobody else.

`interest` says what a service is told, `window` what has happened, `batch` makes a
transaction of it, `sender` sends them. Tables and registrations are in
`homeserver/appservices`.

Spec: application-service-api#pushing-events
"""
