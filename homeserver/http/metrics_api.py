"""The endpoint that Prometheus reads, on listeners that serve `metrics`."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import Request
from homeserver.http.routes import route


@route("GET", "/metrics", auth=nobody)
async def get_metrics(_ctx: Context, _request: Request) -> Answer:
    """Everything that this process counts, in Prometheus' text format."""
    return Reply(body=generate_latest(), content_type=CONTENT_TYPE_LATEST)
