"""Endpoints of the specification that are not built, with the issue they wait for.

It can only shrink: a row that is built, or that the specification does not have, fails
the test beside this, and so does an endpoint that is neither built nor here.
"""

_CLIENT = "/_matrix/client/v3"

MISSING = {
    3: (),
    4: (),
    7: (),
}

# Endpoints that a homeserver is not meant to answer. Of the one to ask a policy server
# for a signature the specification says: "A server is a Policy Server if it implements
# this endpoint, among other requirements. This endpoint is otherwise optional."
# We are who asks: homeserver/rooms/policy.py.
OF_OTHERS = {"POST /_matrix/policy/v1/sign"}
