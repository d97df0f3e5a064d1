"""Endpoints that send a token to an address, and the one that takes codes back."""

from typing import Final

import msgspec

from federation.canonical_json import JsonObject
from homeserver import errors
from homeserver.accounts.addresses import (
    EMAIL,
    MSISDN,
    canonical_email,
    canonical_phone,
)
from homeserver.context import Context
from homeserver.http.auth import nobody
from homeserver.http.limits import address_key
from homeserver.http.replies import Answer
from homeserver.http.requests import Request
from homeserver.http.routes import route
from homeserver.threepids import validation
from homeserver.threepids.validation import Purpose, Wanted

V3: Final = "/_matrix/client/v3"
SUBMIT: Final = "/_hearth/client/msisdn/submitToken"


class _Email(msgspec.Struct):
    client_secret: str
    email: str
    send_attempt: int
    next_link: str | None = None


class _Msisdn(msgspec.Struct):
    client_secret: str
    country: str
    phone_number: str
    send_attempt: int
    next_link: str | None = None


async def _email(ctx: Context, request: Request, purpose: Purpose) -> Answer:
    validation.check_medium(ctx, EMAIL)
    form = request.body(_Email)
    wanted = Wanted(
        purpose,
        EMAIL,
        canonical_email(form.email),
        form.client_secret,
        form.send_attempt,
        form.next_link,
    )
    return {"sid": await validation.request_token(ctx, request, wanted)}


async def _msisdn(ctx: Context, request: Request, purpose: Purpose) -> Answer:
    validation.check_medium(ctx, MSISDN)
    form = request.body(_Msisdn)
    wanted = Wanted(
        purpose,
        MSISDN,
        canonical_phone(form.phone_number, form.country),
        form.client_secret,
        form.send_attempt,
        form.next_link,
    )
    answer: JsonObject = {"sid": await validation.request_token(ctx, request, wanted)}
    base = ctx.config.public_base_url or f"http://{request.headers.get('Host', '')}"
    answer["submit_url"] = base.rstrip("/") + SUBMIT
    return answer


def _check_open(ctx: Context) -> None:
    if ctx.config.registration.mode == "closed":
        raise errors.forbidden("Nobody can register on this server.")


@route("POST", V3 + "/register/email/requestToken", auth=nobody)
async def request_token_to_register_email(ctx: Context, request: Request) -> Answer:
    """Send a link to the address of somebody who registers.

    Spec: client-server-api#post_matrixclientv3registeremailrequesttoken
    """
    _check_open(ctx)
    return await _email(ctx, request, Purpose.REGISTER)


@route("POST", V3 + "/register/msisdn/requestToken", auth=nobody)
async def request_token_to_register_msisdn(ctx: Context, request: Request) -> Answer:
    """Send a code to the phone of somebody who registers.

    Spec: client-server-api#post_matrixclientv3registermsisdnrequesttoken
    """
    _check_open(ctx)
    return await _msisdn(ctx, request, Purpose.REGISTER)


@route("POST", V3 + "/account/3pid/email/requestToken", auth=nobody)
async def request_token_to3_pidemail(ctx: Context, request: Request) -> Answer:
    """Send a link to an address that is to be added to an account.

    Spec: client-server-api#post_matrixclientv3account3pidemailrequesttoken
    """
    return await _email(ctx, request, Purpose.ADD)


@route("POST", V3 + "/account/3pid/msisdn/requestToken", auth=nobody)
async def request_token_to3_pidmsisdn(ctx: Context, request: Request) -> Answer:
    """Send a code to a phone that is to be added to an account.

    Spec: client-server-api#post_matrixclientv3account3pidmsisdnrequesttoken
    """
    return await _msisdn(ctx, request, Purpose.ADD)


@route("POST", V3 + "/account/password/email/requestToken", auth=nobody)
async def request_token_to_reset_password_email(
    ctx: Context, request: Request
) -> Answer:
    """Send a link to somebody who has forgotten the password.

    Spec: client-server-api#post_matrixclientv3accountpasswordemailrequesttoken
    """
    return await _email(ctx, request, Purpose.PASSWORD)


@route("POST", V3 + "/account/password/msisdn/requestToken", auth=nobody)
async def request_token_to_reset_password_msisdn(
    ctx: Context, request: Request
) -> Answer:
    """Send a code to somebody who has forgotten the password.

    Spec: client-server-api#post_matrixclientv3accountpasswordmsisdnrequesttoken
    """
    return await _msisdn(ctx, request, Purpose.PASSWORD)


class _Submission(msgspec.Struct):
    sid: str
    client_secret: str
    token: str


@route("POST", SUBMIT, auth=nobody)
async def submit_msisdn_token(ctx: Context, request: Request) -> Answer:
    """Take the code that came to a phone.

    As `POST /validate/msisdn/submitToken` of the identity service API does.
    """
    form = request.body(_Submission)
    validation.check_secret(form.client_secret)
    request.spend(validation.trying, address_key(request.ip))
    found = await validation.submit(ctx, form.sid, form.token, form.client_secret)
    return {"success": found is not None}
