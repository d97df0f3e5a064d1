"""Endpoints of the specification that are not built, with the issue they wait for.

It can only shrink: a row that is built, or that the specification does not have, fails
the test beside this, and so does an endpoint that is neither built nor here.
"""

_CLIENT = "/_matrix/client/v3"

MISSING = {
    3: (),
    4: (),
    7: (
        f"GET {_CLIENT}/account/3pid",
        f"POST {_CLIENT}/account/3pid",
        f"POST {_CLIENT}/account/3pid/add",
        f"POST {_CLIENT}/account/3pid/bind",
        f"POST {_CLIENT}/account/3pid/delete",
        f"POST {_CLIENT}/account/3pid/email/requestToken",
        f"POST {_CLIENT}/account/3pid/msisdn/requestToken",
        f"POST {_CLIENT}/account/3pid/unbind",
        f"POST {_CLIENT}/account/password/email/requestToken",
        f"POST {_CLIENT}/account/password/msisdn/requestToken",
        f"GET {_CLIENT}/login/sso/redirect",
        f"GET {_CLIENT}/login/sso/redirect/{{idpId}}",
        f"POST {_CLIENT}/register/email/requestToken",
        f"POST {_CLIENT}/register/msisdn/requestToken",
    ),
}

# Endpoints that a homeserver is not meant to answer. Of the one to ask a policy server
# for a signature the specification says: "A server is a Policy Server if it implements
# this endpoint, among other requirements. This endpoint is otherwise optional."
# We are who asks: homeserver/rooms/policy.py.
OF_OTHERS = {"POST /_matrix/policy/v1/sign"}
