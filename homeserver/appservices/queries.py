"""Asking services whether there is a user or an alias in their namespaces.

Spec: application-service-api#querying
"""

from collections.abc import Iterable
from typing import Final

import structlog

from federation.ids import RoomAlias, UserId
from homeserver.appservices import store
from homeserver.appservices.calls import ServiceFailed
from homeserver.appservices.registration import Service
from homeserver.appservices.services import Services
from homeserver.context import Context

_TRIES: Final = 2

log = structlog.get_logger(__name__)


async def has_user(ctx: Context, user_id: UserId) -> bool:
    """Whether a service has made this user of ours, who did not exist, just now."""
    services = ctx.parts.get(Services)
    interested = [each for each in services.all if each.is_user(user_id)]
    return await _ask(ctx, services, interested, "users", user_id)


async def introduce(ctx: Context, user_id: UserId) -> None:
    """Let a service make this user of ours, if it can and there is none yet."""
    if not any(each.is_user(user_id) for each in ctx.parts.get(Services).all):
        return
    async with ctx.db.read() as tx:
        is_there = await store.is_user(tx, user_id)
    if not is_there:
        await has_user(ctx, user_id)


async def has_alias(ctx: Context, alias: RoomAlias) -> bool:
    """Whether a service has made this alias, which did not exist, just now."""
    services = ctx.parts.get(Services)
    interested = [each for each in services.all if each.is_alias(alias)]
    return await _ask(ctx, services, interested, "rooms", alias)


async def _ask(
    ctx: Context,
    services: Services,
    interested: Iterable[Service],
    kind: str,
    name: str,
) -> bool:
    for service in interested:
        if service.url is None:
            continue
        # Many may want to know at once: one asks.
        async with ctx.turns.take(f"appservice {service.service_id} {name}"):
            for _ in range(_TRIES):
                try:
                    answer = await services.calls.ask(
                        service, "GET", kind, name, old_base=""
                    )
                except ServiceFailed as error:
                    log.info(
                        "an application service does not answer",
                        service=service.service_id,
                        reason=str(error),
                    )
                    continue
                if answer.status == 200:
                    return True
                break
    return False
