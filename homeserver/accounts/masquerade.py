"""Whom an application service acts for.

Spec: application-service-api#identity-assertion
"""

from typing import Final

from federation.errors import Malformed
from federation.ids import DeviceId, UserId, parse_user_id
from homeserver import errors
from homeserver.accounts.store import devices, users
from homeserver.appservices.registration import Service
from homeserver.db.pool import Database
from homeserver.http.requests import Request, Requester

_DEVICE_FIELDS: Final = ("device_id", "org.matrix.msc3202.device_id")


def asked_for(service: Service, request: Request) -> tuple[UserId, DeviceId | None]:
    """The user and the device that a request names.

    Raises: M_INVALID_PARAM, M_FORBIDDEN when the user is not of its namespace.
    """
    name = request.query_str("user_id")
    user_id = service.sender
    if name is not None:
        try:
            user_id = parse_user_id(name)
        except Malformed as error:
            raise errors.invalid_param(f"user_id: {error}.") from None
    if not service.is_user(user_id):
        raise errors.forbidden("This user is not in the service's namespace.")
    for name in _DEVICE_FIELDS:
        device_id = request.query_str(name)
        if device_id is not None:
            return user_id, DeviceId(device_id)
    return user_id, None


async def find(
    db: Database, service: Service, user_id: UserId, device_id: DeviceId | None
) -> Requester:
    """The user as the one who asks.

    The service's own user exists as soon as it asks for something.

    Raises: M_FORBIDDEN, when there is no such user; M_UNKNOWN_DEVICE.
    """
    async with db.transaction() as tx:
        if user_id == service.sender:
            await users.create_user(tx, user_id, None)
        account = await users.account(tx, user_id)
        device = None
        if account is not None and device_id is not None and "\0" not in device_id:
            device = await devices.device(tx, user_id, device_id)
    if account is None:
        raise errors.forbidden("The service has not registered this user.")
    if account.is_deactivated:
        raise errors.user_deactivated()
    if device_id is not None and device is None:
        raise errors.unknown_device()
    limited = service.registration.rate_limited and user_id != service.sender
    return Requester(
        user_id,
        device_id,
        is_locked=account.is_locked,
        is_suspended=account.is_suspended,
        service_id=service.service_id,
        is_unlimited=not limited,
    )
