"""Searching: by words first, then by what is nearly right.

Spec: client-server-api#post_matrixclientv3user_directorysearch
"""

from collections.abc import Iterable, Sequence
from typing import Final

from federation.ids import UserId
from homeserver.context import Context
from homeserver.people import store
from homeserver.people.store import Found, Search
from homeserver.people.words import asked_words, fold, likeness, triples_of

# So many that fit are asked for their rooms, and compared letter by letter.
_MOST_PUBLIC: Final = 300
_MOST_SIMILAR: Final = 1000
_ENOUGH_ALIKE: Final = 0.5


async def search(
    ctx: Context, reader: UserId, term: str, limit: int
) -> tuple[Sequence[Found], bool]:
    """The people whom the reader may see and who are called so; whether there are more.

    All of ours may be seen where the configuration says so.
    """
    term = term.strip()
    folded = fold(term.removeprefix("@"))
    words = asked_words(folded)
    if not words:
        return (), False
    user = await ctx.live.user(reader)
    prefix = term.replace("\0", "")[:255] if term.startswith("@") else None
    wanted = Search(
        reader,
        [nid for nid, member in user.rooms.items() if member.membership == "join"],
        folded,
        " & ".join(f"'{word}':*" for word in words),
        prefix.lower() if prefix else None,
        limit + 1,
    )
    all_local = ctx.config.user_directory.search_all_users
    async with ctx.db.read() as tx:
        found = await store.known(tx, wanted, all_local=all_local)
        if len(found) <= limit:
            found = _added(found, await store.public(tx, wanted, _MOST_PUBLIC))
        triples = [each.replace(" ", "_") for each in triples_of(folded)]
        if len(found) <= limit and prefix is None and triples:
            near = await store.similar(
                tx,
                wanted,
                " | ".join(f"'{each}'" for each in triples),
                _MOST_SIMILAR,
                all_local=all_local,
            )
            found = _added(found, _most_alike(folded, near))
    return found[:limit], len(found) > limit


def _added(found: list[Found], more: Iterable[Found]) -> list[Found]:
    there = {each.user_id for each in found}
    return found + [each for each in more if each.user_id not in there]


def _most_alike(folded: str, near: Sequence[Found]) -> list[Found]:
    asked = triples_of(folded)

    def alike(each: Found) -> float:
        localpart = fold(each.user_id[1:].partition(":")[0])
        return max(_best(asked, each.name), _best(asked, localpart))

    rated = [(alike(each), each) for each in near]
    rated.sort(key=lambda pair: (-pair[0], pair[1].user_id))
    return [each for rate, each in rated if rate >= _ENOUGH_ALIKE]


def _best(asked: Sequence[str], name: str) -> float:
    """How alike the whole name is, or the most alike of its words."""
    return max(likeness(asked, triples_of(each)) for each in (name, *name.split()[:20]))
