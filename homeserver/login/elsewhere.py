"""Accounts for people whom another program of the operator knows by name."""

from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.sessions import MAX_DISPLAY_NAME
from homeserver.accounts.store import profiles, users
from homeserver.accounts.store.threepids import Threepid
from homeserver.accounts.store.users import Account
from homeserver.appservices.services import Services
from homeserver.context import Context
from homeserver.live.changes import Change, Kind
from homeserver.login.register import check_room_for_one_more, make_account


async def account_of(
    ctx: Context,
    user_id: UserId,
    *,
    sign_up: bool,
    display_name: str = "",
    address: Threepid | None = None,
) -> Account:
    """The account of that name, made if need be.

    Raises: M_FORBIDDEN; M_USER_DEACTIVATED, M_USER_LOCKED, M_USER_AWAITING_APPROVAL;
    M_RESOURCE_LIMIT_EXCEEDED, M_EXCLUSIVE.
    """
    async with ctx.db.read() as tx:
        account = await users.account(tx, user_id)
    if account is None and sign_up:
        ctx.parts.get(Services).check_user(user_id)
        await check_room_for_one_more(ctx)
        await make_account(
            ctx.db,
            user_id,
            None,
            is_approved=ctx.config.registration.mode != "approval",
            addresses=[address] if address else [],
        )
        if display_name:
            await _name(ctx, user_id, display_name[:MAX_DISPLAY_NAME])
        async with ctx.db.read() as tx:
            account = await users.account(tx, user_id)
    if account is None:
        raise errors.forbidden("There is no such account.")
    if account.is_deactivated:
        raise errors.user_deactivated()
    if account.is_locked:
        raise errors.user_locked()
    if not account.is_approved:
        raise errors.user_awaiting_approval(by_email=address is not None)
    return account


async def _name(ctx: Context, user_id: UserId, name: str) -> None:
    """Give somebody new, who is in no room, a display name."""
    edit = profiles.Edit(user_id, "displayname", name, lambda _: None, tell_rooms=False)
    change = Change(Kind.PROFILE, user_id=user_id, reach=edit.reach)
    await ctx.live.commit(profiles.edit, edit, change)
