"""The tables `user_threepids` and `threepid_bindings`: addresses of accounts."""

from dataclasses import dataclass

from federation.ids import UserId
from homeserver.db.pool import Tx
from homeserver.db.rows import fetch_as


@dataclass(frozen=True, slots=True)
class Threepid:
    """An e-mail address or a phone number of a user."""

    medium: str
    address: str
    validated_ms: int
    added_ms: int


@dataclass(frozen=True, slots=True)
class Binding:
    """An address that was bound at an identity server through us."""

    medium: str
    address: str
    id_server: str


async def owner(tx: Tx, medium: str, address: str) -> UserId | None:
    """Whose address it is; accounts that have ended own none."""
    found: UserId | None = await tx.fetchval(
        """
        SELECT t.user_id FROM user_threepids t JOIN users u USING (user_id)
         WHERE t.medium = $1 AND t.address = $2 AND NOT u.deactivated
        """,
        medium,
        address,
    )
    return found


async def of_user(tx: Tx, user_id: UserId) -> list[Threepid]:
    """All addresses of the user."""
    return await fetch_as(
        tx,
        Threepid,
        """
        SELECT medium, address, validated_ms, added_ms FROM user_threepids
         WHERE user_id = $1 ORDER BY added_ms, medium, address
        """,
        user_id,
    )


async def add(tx: Tx, user_id: UserId, new: Threepid) -> bool:
    """Give the user an address; False when it is somebody else's."""
    owner_now = await tx.fetchval(
        """
        INSERT INTO user_threepids (medium, address, user_id, validated_ms, added_ms)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (medium, address) DO UPDATE
           SET validated_ms = CASE WHEN user_threepids.user_id = EXCLUDED.user_id
                   THEN EXCLUDED.validated_ms ELSE user_threepids.validated_ms END
        RETURNING user_id
        """,
        new.medium,
        new.address,
        user_id,
        new.validated_ms,
        new.added_ms,
    )
    return bool(owner_now == user_id)


async def remove(tx: Tx, user_id: UserId, medium: str, address: str) -> None:
    """Take an address away from the user."""
    await tx.execute(
        """
        DELETE FROM user_threepids
         WHERE user_id = $1 AND medium = $2 AND address = $3
        """,
        user_id,
        medium,
        address,
    )


async def bound(tx: Tx, user_id: UserId) -> list[Binding]:
    """Where the user's addresses are bound."""
    return await fetch_as(
        tx,
        Binding,
        """
        SELECT medium, address, id_server FROM threepid_bindings WHERE user_id = $1
        """,
        user_id,
    )


async def bind(tx: Tx, user_id: UserId, binding: Binding) -> None:
    """Note that an address has been bound."""
    await tx.execute(
        """
        INSERT INTO threepid_bindings (user_id, medium, address, id_server)
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
        """,
        user_id,
        binding.medium,
        binding.address,
        binding.id_server,
    )


async def unbind(tx: Tx, user_id: UserId, binding: Binding) -> None:
    """Note that it is bound no longer."""
    await tx.execute(
        """
        DELETE FROM threepid_bindings
         WHERE user_id = $1 AND medium = $2 AND address = $3 AND id_server = $4
        """,
        user_id,
        binding.medium,
        binding.address,
        binding.id_server,
    )
