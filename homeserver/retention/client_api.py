"""What clients are told of retention. MSC1763."""

from federation.canonical_json import JsonObject, JsonValue
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route


@route(
    "GET",
    "/_matrix/client/unstable/org.matrix.msc1763/retention/configuration",
    auth=by_access_token,
)
async def get_retention_configuration(ctx: Context, _request: ClientRequest) -> Answer:
    """The default for rooms that say nothing, and the limits for others. MSC1763."""
    retention = ctx.live.retention
    policies: JsonObject = {}
    limits: dict[str, JsonValue] = {}
    if retention is None:
        return {"policies": policies, "limits": {}}
    lives = retention.lifetimes
    if lives.default is not None:
        policies = {"*": {"max_lifetime": lives.default}}
    if lives.least is not None:
        limits["min"] = lives.least
    if lives.most is not None:
        limits["max"] = lives.most
    shown: JsonObject = {"max_lifetime": limits} if limits else {}
    return {"policies": policies, "limits": shown}
