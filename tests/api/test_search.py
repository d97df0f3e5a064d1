"""Server-side search: what is found, in which order and groups, and what is not."""

import itertools

import pytest

from homeserver.search import store
from homeserver.search.indexer import index_some
from tests.support.api import RefusedError, path
from tests.support.client import Client

SEARCH = "/_matrix/client/v3/search"
PUBLIC = {"preset": "public_chat"}
_words = itertools.count()


def new_word() -> str:
    """A word that nobody has said yet."""
    return "word" + "".join(chr(ord("a") + int(d)) for d in str(next(_words))) + "z"


async def search(
    client: Client, term: str, next_batch: str = "", **more: object
) -> dict:
    body = {"search_categories": {"room_events": {"search_term": term, **more}}}
    query = {"next_batch": next_batch} if next_batch else {}
    reply = await client.call("POST", SEARCH, body, query=query)
    return reply["search_categories"]["room_events"]


async def found(client: Client, term: str, **more: object) -> list[str]:
    """The IDs of what is found."""
    reply = await search(client, term, **more)
    return [each["result"]["event_id"] for each in reply["results"]]


async def refusal(call) -> tuple[int, str]:
    with pytest.raises(RefusedError) as error:
        await call
    return error.value.status, error.value.errcode


# ── What is found ────────────────────────────────────────────────────────────────────


async def test_messages_names_and_topics_are_found_by_their_key(alice):
    word = new_word()
    room = await alice.creates_room()
    message = await alice.sends(room, f"We saw {word}!")
    name = await alice.sets_state(room, "m.room.name", {"name": f"About {word}"})
    topic = await alice.sets_state(
        room,
        "m.room.topic",
        {"topic": "", "m.topic": {"m.text": [{"body": f"All of {word.upper()}"}]}},
    )
    await alice.sends(room, "something else")
    for keys, wanted in [
        (None, {message, name, topic}),
        (["content.body"], {message}),
        (["content.name"], {name}),
        (["content.topic"], {topic}),
        (["content.name", "content.topic"], {name, topic}),
    ]:
        more = {} if keys is None else {"keys": keys}
        assert set(await found(alice, word, **more)) == wanted
    reply = await search(alice, word)
    assert reply["count"] == 3
    assert set(reply["highlights"]) == {word, word.upper()}
    assert "next_batch" not in reply
    assert {each["result"]["room_id"] for each in reply["results"]} == {room}


@pytest.mark.parametrize(
    ("text", "terms", "others"),
    [
        ("今日はいい天気ですね", ["天気", "今日は", "い", "いい天気ですね"], ["気天"]),
        ("我们明天去北京旅游", ["北京", "明天", "京", "北京旅游"], ["京北", "明北京"]),
        ("안녕하세요 세계", ["안녕", "세계", "하세요"], ["요하"]),
        ("ภาษาไทย", ["ไทย"], ["ยทไ"]),
        ("Crème brûlée in STRASSE", ["creme", "brul", "straße", "Brûlée"], ["reme"]),
        ("ﬁne Ｆｕｌｌ width", ["fine", "full", "wid"], ["idth"]),  # noqa: RUF001 - meant
        ("Съешь ещё булок", ["съе", "ЕЩЁ", "булок"], ["ъешь"]),
        ("don't stop 2nd", ["don", "stop 2nd", "2n"], ["top"]),
    ],
)
async def test_any_language_is_found_and_words_by_their_beginning(
    alice, text, terms, others
):
    room = await alice.creates_room()
    event_id = await alice.sends(room, text)
    only = {"filter": {"rooms": [room]}}
    for term in terms:
        assert await found(alice, term, **only) == [event_id], term
    for term in others:
        assert await found(alice, term, **only) == [], term


async def test_all_words_must_be_there(alice):
    one, two = new_word(), new_word()
    room = await alice.creates_room()
    both = await alice.sends(room, f"{two} and {one}")
    await alice.sends(room, one)
    assert await found(alice, f"{one} {two}") == [both]
    for term in ("", " ", "!?", "\0", "'", "\\", "'a' | 'b'", "a & !b", "<->"):
        await search(alice, term)
    assert await found(alice, "") == []


async def test_what_was_redacted_is_not_found(hearth, alice):
    word = new_word()
    room = await alice.creates_room()
    gone = await alice.sends(room, f"{word} one")
    kept = await alice.sends(room, f"{word} two")
    assert set(await found(alice, word)) == {gone, kept}
    await alice.redacts(room, gone)
    assert await found(alice, word) == [kept]
    event = await hearth.ctx.live.events.by_id(gone)
    async with hearth.ctx.db.read() as tx:
        left = await tx.fetchval(
            "SELECT true FROM search_index WHERE event_nid = $1", event.nid
        )
    assert left is None


async def test_encrypted_messages_are_not_found(alice):
    word = new_word()
    room = await alice.creates_room()
    await alice.sends_event(room, "m.room.encrypted", {"body": word})
    await alice.sends_event(room, "m.reaction", {"body": word})
    assert await found(alice, word) == []


# ── Who may see it ───────────────────────────────────────────────────────────────────


async def test_only_what_one_may_see_is_found(alice, bob, carol):
    word = new_word()
    room = await alice.creates_room(
        **PUBLIC,
        initial_state=[
            {
                "type": "m.room.history_visibility",
                "content": {"history_visibility": "joined"},
            }
        ],
    )
    await alice.sends(room, f"{word} before bob")
    await bob.joins(room)
    during = await alice.sends(room, f"{word} while bob is there")
    await bob.leaves(room)
    await alice.sends(room, f"{word} after bob")
    assert len(await found(alice, word)) == 3
    assert await found(bob, word) == [during]
    assert await found(carol, word) == []
    await bob.forgets(room)
    assert await found(bob, word) == []


async def test_filters_restrict_rooms_senders_and_more(alice, bob):
    word = new_word()
    one = await alice.creates_room(**PUBLIC)
    two = await alice.creates_room(**PUBLIC)
    await bob.joins(one)
    first = await alice.sends(one, f"{word} 1")
    second = await bob.sends(one, f"{word} 2")
    third = await alice.sends(two, f"{word} 3")
    url = {"msgtype": "m.file", "body": word, "url": "mxc://a/b"}
    fourth = await alice.sends_event(two, "m.room.message", url)
    for wanted, expected in [
        ({"rooms": [one]}, {first, second}),
        ({"not_rooms": [one]}, {third, fourth}),
        ({"senders": [bob.user_id]}, {second}),
        ({"not_senders": [bob.user_id]}, {first, third, fourth}),
        ({"contains_url": True}, {fourth}),
        ({"types": ["m.room.name"]}, set()),
        ({"rooms": []}, set()),
    ]:
        assert set(await found(alice, word, filter=wanted)) == expected


# ── Order, pages, groups ─────────────────────────────────────────────────────────────


async def test_order_is_by_rank_or_by_time(alice):
    word = new_word()
    room = await alice.creates_room()
    best = await alice.sends(room, word)
    long = await alice.sends(room, f"{word} within a much longer text of many words")
    prefix = await alice.sends(room, f"{word}ing")
    assert await found(alice, word, order_by="recent") == [prefix, long, best]
    reply = await search(alice, word)
    ranks = [each["rank"] for each in reply["results"]]
    assert ranks == sorted(ranks, reverse=True)
    assert reply["results"][0]["result"]["event_id"] == best


@pytest.mark.parametrize("order_by", ["rank", "recent"])
async def test_pages_give_everything_once(alice, order_by):
    word = new_word()
    room = await alice.creates_room()
    sent = [await alice.sends(room, f"{word} {'x ' * (n % 4)}") for n in range(25)]
    more = {"order_by": order_by, "filter": {"limit": 10}}
    seen: list[str] = []
    token, pages = "", 0
    while pages < 10:
        reply = await search(alice, word, token, **more)
        assert reply["count"] == 25
        seen += [each["result"]["event_id"] for each in reply["results"]]
        pages += 1
        token = reply.get("next_batch", "")
        if not token:
            break
    assert pages == 3
    assert sorted(seen) == sorted(sent)
    if order_by == "recent":
        assert seen == sent[::-1]


async def test_groups_have_pages_of_their_own(alice, bob):
    word = new_word()
    one = await alice.creates_room(**PUBLIC)
    two = await alice.creates_room(**PUBLIC)
    await bob.joins(two)
    in_one = [await alice.sends(one, f"{word} {n}") for n in range(7)]
    in_two = [await bob.sends(two, f"{word} {n}") for n in range(7)]
    more = {
        "order_by": "recent",
        "filter": {"limit": 9},
        "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
    }
    reply = await search(alice, word, **more)
    rooms, senders = reply["groups"]["room_id"], reply["groups"]["sender"]
    assert rooms[two]["results"] == in_two[::-1]
    assert rooms[one]["results"] == in_one[:4:-1]
    assert (rooms[two]["order"], rooms[one]["order"]) == (1, 2)
    assert "next_batch" not in rooms[two]
    assert senders[alice.user_id]["results"] == in_one[:4:-1]
    assert "next_batch" not in senders[bob.user_id]
    for group in (rooms[one], senders[alice.user_id]):
        following = await search(alice, word, group["next_batch"], **more)
        ids = [each["result"]["event_id"] for each in following["results"]]
        assert ids == in_one[4::-1]
        assert "next_batch" not in following


async def test_context_profiles_and_state_come_when_asked(alice, bob):
    word = new_word()
    room = await alice.creates_room(**PUBLIC)
    await bob.joins(room)
    await bob.sets_displayname("Bobby")
    before = [await alice.sends(room, f"before {n}") for n in range(3)]
    hit = await bob.sends(room, word)
    after = [await alice.sends(room, f"after {n}") for n in range(3)]
    context = {"before_limit": 2, "after_limit": 1, "include_profile": True}
    reply = await search(alice, word, event_context=context, include_state=True)
    (result,) = reply["results"]
    shown = result["context"]
    assert [e["event_id"] for e in shown["events_before"]] == before[:0:-1]
    assert [e["event_id"] for e in shown["events_after"]] == after[:1]
    assert shown["profile_info"][bob.user_id]["displayname"] == "Bobby"
    assert set(shown["profile_info"]) == {alice.user_id, bob.user_id}
    older = await alice.messages(room, start=shown["start"], limit=1)
    assert [e["event_id"] for e in older["chunk"]] == before[:1]
    newer = await alice.messages(room, start=shown["end"], direction="f", limit=1)
    assert [e["event_id"] for e in newer["chunk"]] == after[1:2]
    state = {(e["type"], e["state_key"]) for e in reply["state"][room]}
    assert ("m.room.create", "") in state
    assert ("m.room.member", bob.user_id) in state
    plain = await search(alice, word)
    assert "context" not in plain["results"][0]
    assert "state" not in plain
    assert result["result"]["event_id"] == hit


async def test_what_is_found_comes_with_its_edit(alice):
    word = new_word()
    room = await alice.creates_room()
    hit = await alice.sends(room, word)
    edit = {
        "msgtype": "m.text",
        "body": "* better",
        "m.new_content": {"msgtype": "m.text", "body": "better"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": hit},
    }
    edit_id = await alice.sends_event(room, "m.room.message", edit)
    reply = await search(alice, word)
    (result,) = reply["results"]
    relations = result["result"]["unsigned"]["m.relations"]
    assert relations["m.replace"]["event_id"] == edit_id


# ── Bad requests ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "category",
    [
        {},
        {"search_term": 1},
        {"search_term": "x", "keys": ["content.url"]},
        {"search_term": "x", "order_by": "size"},
        {"search_term": "x", "filter": {"limit": "many"}},
        {"search_term": "x", "filter": {"rooms": ["nonsense"]}},
        {"search_term": "x", "groupings": {"group_by": [{"key": "type"}]}},
        {"search_term": "x", "event_context": {"before_limit": "two"}},
    ],
)
async def test_what_is_no_search_is_refused(alice, category):
    body = {"search_categories": {"room_events": category}}
    assert await refusal(alice.post(SEARCH, body)) == (400, "M_BAD_JSON")


async def test_bad_tokens_and_empty_searches(alice):
    assert await alice.post(SEARCH, {"search_categories": {}}) == {
        "search_categories": {}
    }
    assert await refusal(alice.post(SEARCH, {})) == (400, "M_BAD_JSON")
    for token in ("x", "====", "WzEsMl0", "WzEsMiwzXQ", "é", "WzEsMWUzMCxudWxsXQ"):
        call = search(alice, "x", token)
        assert await refusal(call) == (400, "M_INVALID_PARAM")


# ── The index ────────────────────────────────────────────────────────────────────────


async def test_the_index_is_made_anew_from_what_there_is(hearth, alice):
    word = new_word()
    room = await alice.creates_room()
    event_id = await alice.sends(room, word)
    gone = await alice.sends(room, f"{word} redacted")
    await alice.redacts(room, gone)
    assert await found(alice, word) == [event_id]
    async with hearth.ctx.db.transaction() as tx:
        await tx.execute("TRUNCATE search_index, search_cursor")
        while await index_some(tx):
            pass
        cursor = await store.cursor(tx)
        assert cursor is not None
        assert cursor.scan_nid is None
    assert await found(alice, word) == [event_id]
    async with hearth.ctx.db.transaction() as tx:  # away for longer than changes last
        await tx.execute("TRUNCATE search_index")
        await tx.execute("UPDATE search_cursor SET position = -1")
        while await index_some(tx):
            pass
    assert await found(alice, word) == [event_id]


async def test_another_process_finds_it_too(alice, another_process):
    word = new_word()
    room = await alice.creates_room()
    elsewhere = Client(
        alice.http, another_process.base_url, alice.access_token, user_id=alice.user_id
    )
    event_id = await elsewhere.sends(room, word)
    assert await found(alice, word) == [event_id]
    assert await found(elsewhere, word) == [event_id]
    where = path("rooms", room, "event", event_id)
    assert (await alice.get(where))["event_id"] == event_id
