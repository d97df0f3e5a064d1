"""Invites for an e-mail address, once its owner has a user ID.

The invite of the address is in the room's state; an identity server has signed that
the address belongs to a user now. The inviting user's server makes it an invite of
that user.

Spec: client-server-api#third-party-invites, server-server-api#third-party-invites
"""

from collections.abc import Iterator
from typing import Final

from federation import signatures
from federation.auth_rules.third_party import signing_keys
from federation.bodies import ThirdPartyInviteExchange
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import Malformed
from federation.ids import server_of
from federation.pdu import Pdu
from federation.wire import calls_rooms
from federation.wire.errors import RemoteError, WireError
from homeserver import errors
from homeserver.context import Context
from homeserver.rooms import membership
from homeserver.rooms.identity import KeyChecks
from homeserver.rooms.restricted import state_pdus

INVITE: Final = "m.room.third_party_invite"


async def redeem(ctx: Context, exchange: ThirdPartyInviteExchange) -> None:
    """Have the user invited, here or by the server of who invited the address.

    Raises: M_FORBIDDEN, M_NOT_FOUND; M_UNKNOWN with 502.
    """
    server = server_of(exchange.sender)
    if server == ctx.server_name:
        await exchange_here(ctx, exchange)
        return
    try:
        await calls_rooms.exchange_third_party_invite(ctx.wire, server, exchange)
    except RemoteError as error:
        if error.status in (400, 403, 404):
            raise errors.forbidden(f"{server} does not know this invite.") from error
        raise errors.bad_gateway(f"{server} cannot invite you now.") from error
    except WireError as error:
        raise errors.bad_gateway(f"{server} does not answer.") from error


async def exchange_here(ctx: Context, exchange: ThirdPartyInviteExchange) -> None:
    """Invite the user in the name of our user who invited the address.

    Raises: M_FORBIDDEN, M_NOT_FOUND, and what the user's server says.
    """
    if server_of(exchange.sender) != ctx.server_name:
        raise errors.forbidden(f"{exchange.sender} is no user of this server.")
    room = await membership.held_room(ctx, exchange.room_id)
    if room is None:
        raise errors.not_found("This server is not in such a room.")
    signed = _signed(exchange.content)
    key = (INVITE, str(signed["token"]))
    invite = (await state_pdus(ctx.live, room, key)).get(key)
    if invite is None or invite.sender != exchange.sender:
        raise errors.forbidden("There is no such invite, or it was taken back.")
    await _check_key(ctx, signed, invite)
    if room.is_joined(exchange.state_key):
        return
    name = invite.content.get("display_name")
    token: JsonObject = {
        "display_name": name if isinstance(name, str) else "",
        "signed": signed,
    }
    await membership.invite(
        ctx,
        exchange.sender,
        exchange.room_id,
        exchange.state_key,
        {"third_party_invite": token},
    )


def _signed(content: JsonObject) -> JsonObject:
    third_party = content["third_party_invite"]
    signed = third_party.get("signed") if isinstance(third_party, dict) else None
    if not isinstance(signed, dict):
        raise errors.bad_json("third_party_invite.signed: an object is needed.")
    return signed


async def _check_key(ctx: Context, signed: JsonObject, invite: Pdu) -> None:
    """Raise M_FORBIDDEN unless a key that is still good has signed."""
    urls = dict(_validity_urls(invite.content))
    for key in signing_keys(signed, invite.content):
        text = signatures.encode_base64(key)
        url = urls.get(key)
        # "If not present, the key must be considered valid indefinitely."
        if url is None or await ctx.parts.get(KeyChecks).is_valid(url, text):
            return
    raise errors.forbidden("No key that is valid has signed this invite.")


def _validity_urls(content: JsonObject) -> Iterator[tuple[bytes, str]]:
    listed = content.get("public_keys")
    entries: list[JsonValue] = [content]
    entries += listed if isinstance(listed, list) else []
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        key, url = entry.get("public_key"), entry.get("key_validity_url")
        if not isinstance(key, str) or not isinstance(url, str):
            continue
        try:
            yield signatures.decode_base64(key), url
        except Malformed:
            continue
