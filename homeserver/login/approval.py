"""Let in those who wait for an administrator's approval. MSC3866."""

from federation.ids import UserId
from homeserver.accounts.addresses import EMAIL
from homeserver.accounts.store import threepids, users
from homeserver.config import Config
from homeserver.db.pool import Tx
from homeserver.mail import messages
from homeserver.mail import store as outbox


async def approve(tx: Tx, config: Config, user_id: UserId) -> bool:
    """Let the user in, and say so by e-mail; False when nobody of that name waits."""
    if not await users.approve(tx, user_id):
        return False
    if config.mail.host:
        for each in await threepids.of_user(tx, user_id):
            if each.medium == EMAIL:
                said = messages.letter(
                    messages.APPROVED, "", server=config.server_name, account=user_id
                )
                await outbox.add(
                    tx, EMAIL, each.address, said.subject, said.plain, said.html
                )
    return True
