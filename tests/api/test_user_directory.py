"""Finding people: what they are found by, and whom one may find."""

import itertools

import pytest

from homeserver.people.words import asked_words, fold, words_of
from tests.support.api import RefusedError, eventually, path
from tests.support.client import Client

WHERE = path("user_directory", "search")
PUBLIC = {"preset": "public_chat"}
_names = itertools.count(1)


async def finds(client: Client, term: str, **more: object) -> list[str]:
    reply = await client.post(WHERE, {"search_term": term, **more})
    return [each["user_id"] for each in reply["results"]]


async def comes_to_find(client: Client, term: str, *who: Client) -> None:
    wanted = [each.user_id for each in who]

    async def is_found() -> bool:
        return await finds(client, term) == wanted

    await eventually(is_found, f"{term} finds {wanted}")


@pytest.fixture
def word() -> str:
    """A word that no other test uses."""
    number = next(_names)
    return "".join("abcdefghij"[int(digit)] for digit in f"{number:03}") + "qx"


async def private(first: Client, *others: Client) -> str:
    room = await first.creates_room()
    for other in others:
        await first.invites(room, other)
        await other.joins(room)
    return room


async def test_people_in_ones_rooms_are_found_by_name_and_id(alice, bob, carol, word):
    await private(alice, bob)
    await bob.sets_displayname(f"Zoë {word.title()}son")
    await comes_to_find(alice, word, bob)
    assert await finds(alice, word.upper()) == [bob.user_id]
    assert await finds(alice, f"zoe {word}") == [bob.user_id]
    assert await finds(alice, f"{word} nobody") == []
    reply = await alice.post(WHERE, {"search_term": bob.user_id})
    assert reply["results"][0] == {
        "user_id": bob.user_id,
        "display_name": f"Zoë {word.title()}son",
    }
    localpart = bob.user_id[1:].partition(":")[0]
    assert bob.user_id in await finds(alice, localpart, limit=50)
    # Carol shares no room with him.
    assert await finds(carol, word) == []
    assert await finds(carol, bob.user_id) == []


async def test_a_new_name_takes_the_place_of_the_old(alice, bob, word):
    await private(alice, bob)
    await bob.sets_displayname(f"{word} one")
    await comes_to_find(alice, word, bob)
    await bob.sets_displayname("somebody else")
    await comes_to_find(alice, word)


async def test_people_in_public_rooms_are_found_by_everybody(alice, bob, word):
    await bob.sets_displayname(f"Open {word}")
    room = await bob.creates_room(**PUBLIC)
    await comes_to_find(alice, word, bob)
    await bob.leaves(room)
    await comes_to_find(alice, word)


async def test_rooms_that_everybody_may_read_count_as_public(alice, bob, word):
    await bob.sets_displayname(f"Readable {word}")
    room = await private(bob)
    await bob.sets_state(
        room, "m.room.history_visibility", {"history_visibility": "world_readable"}
    )
    await comes_to_find(alice, word, bob)


async def test_exact_names_come_first_and_the_limit_is_told(
    alice, bob, carol, person, word
):
    dave = await person()
    await private(alice, bob, carol, dave)
    await bob.sets_displayname(f"Someone {word}")
    await carol.sets_displayname(f"{word} and more")
    await dave.sets_displayname(word)
    await comes_to_find(alice, word, dave, carol, bob)
    reply = await alice.post(WHERE, {"search_term": word, "limit": 2})
    assert reply["limited"] is True
    assert len(reply["results"]) == 2


async def test_what_is_nearly_right_is_found(alice, bob, word):
    await private(alice, bob)
    await bob.sets_displayname(f"Wolfgang{word}")
    await comes_to_find(alice, f"wolfgang{word}", bob)
    assert await finds(alice, f"wolgfang{word}") == [bob.user_id]


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("王小明", "小明"),
        ("王小明", "明"),
        ("サトウ ハナコ", "ハナ"),
        ("김철수", "철수"),
    ],
)
async def test_scripts_without_spaces_work(alice, bob, name, term):
    await private(alice, bob)
    await bob.sets_displayname(name)
    await comes_to_find(alice, term, bob)
    await bob.sets_displayname("gone")


async def test_everybody_is_found_where_that_is_configured(another, person):
    server = await another(user_directory={"search_all_users": True})
    alice, bob = await person(server), await person(server)
    localpart = bob.user_id[1:].partition(":")[0]
    await comes_to_find(alice, localpart, bob)


async def test_who_searches_is_not_found(alice, word):
    await alice.creates_room(**PUBLIC)
    await alice.sets_displayname(word)
    assert await finds(alice, word) == []


@pytest.mark.parametrize("term", ["", "   ", "!?", "\0", "' & | : *", "@"])
async def test_strange_terms_find_nobody(alice, term):
    assert await finds(alice, term) == []


@pytest.mark.parametrize(
    "body", [{}, {"search_term": 1}, {"search_term": "x", "limit": -1}, []]
)
async def test_what_is_no_search_is_refused(alice, body):
    with pytest.raises(RefusedError) as error:
        await alice.post(WHERE, body)
    assert error.value.errcode in {"M_BAD_JSON", "M_INVALID_PARAM"}


def test_words_of_dense_scripts_are_characters_and_pairs() -> None:
    assert words_of(fold("Ann-王小明")) == ["ann", "王", "小", "明", "王小", "小明"]
    assert asked_words("小明") == ["小明"]
    assert fold("\uff26\uff55LL \u0132") == "full ij"
