"""The endpoint that Prometheus reads, on listeners that serve `metrics`."""

from prometheus_client import CONTENT_TYPE_LATEST

from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.http.siblings import Siblings


@route("GET", "/metrics", auth=nobody)
async def get_metrics(ctx: Context, _request: Request) -> Answer:
    """Everything that this process and its siblings count, in Prometheus' format."""
    counts = await ctx.parts.get(Siblings).counts()
    return Reply(body=counts, content_type=CONTENT_TYPE_LATEST)
