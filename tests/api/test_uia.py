"""User-interactive authentication over several stages and flows."""

import asyncio

import pytest

from federation.canonical_json import JsonObject
from federation.ids import UserId
from homeserver import errors
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.accounts.uia import AuthenticationNeeded, Uia, check_dummy, finish
from homeserver.db.pool import Database

ALICE = UserId("@alice:hearth.test")


async def say(auth: JsonObject, session: UiaSession) -> bool:
    """A stage that is satisfied by the right word, and remembers it."""
    if auth.get("word") != "please":
        raise errors.forbidden("Say the word.")
    session.details["word"] = "please"
    return False


TWO = Uia(
    "two",
    [("word", "dummy"), ("word", "other")],
    {"word": say, "dummy": check_dummy, "other": check_dummy},
    {"word": {"hint": "magic"}},
)
WORD: JsonObject = {"type": "word", "word": "please"}


async def asked(database: Database, auth: object, operation: Uia = TWO) -> JsonObject:
    with pytest.raises(AuthenticationNeeded) as needed:
        await operation.authenticate(database, auth, ALICE)
    assert needed.value.status == 401
    return needed.value.body()


async def test_stages_are_passed_in_order(database: Database) -> None:
    first = await asked(database, None)
    assert first["flows"] == [
        {"stages": ["word", "dummy"]},
        {"stages": ["word", "other"]},
    ]
    assert first["params"] == {"word": {"hint": "magic"}}
    assert "completed" not in first
    session = first["session"]
    early = await asked(database, {"type": "dummy", "session": session})
    assert early["errcode"] == "M_FORBIDDEN"
    assert "completed" not in early
    wrong = await asked(database, {"type": "word", "session": session})
    assert (wrong["errcode"], wrong["error"]) == ("M_FORBIDDEN", "Say the word.")
    second = await asked(database, {**WORD, "session": session})
    assert second["completed"] == ["word"]
    assert "errcode" not in second
    # A completed stage is not tried again, right or wrong.
    again = await asked(database, {"type": "word", "word": "no", "session": session})
    assert again == second
    done = await TWO.authenticate(
        database, {"type": "other", "session": session}, ALICE
    )
    assert done.completed == ["word", "other"]
    assert done.details == {"word": "please"}
    # It stays complete while the operation has not been done.
    same = await TWO.authenticate(database, {"session": session}, ALICE)
    assert same.completed == ["word", "other"]
    await finish(database, done)
    over = await asked(database, {"session": session})
    assert over["errcode"] == "M_UNKNOWN"
    assert over["session"] != session


async def test_a_session_is_begun_by_the_first_stage(database: Database) -> None:
    begun = await asked(database, WORD)
    assert begun["completed"] == ["word"]
    done = await TWO.authenticate(
        database, {"type": "dummy", "session": begun["session"]}, ALICE
    )
    assert done.completed == ["word", "dummy"]


async def test_a_session_is_of_one_operation_and_user(database: Database) -> None:
    session = (await asked(database, WORD))["session"]
    other = Uia("other", TWO.flows, TWO.stages)
    body = await asked(database, {"type": "dummy", "session": session}, other)
    assert body["errcode"] == "M_UNKNOWN"
    for user_id in (None, UserId("@bob:hearth.test")):
        with pytest.raises(AuthenticationNeeded):
            await TWO.authenticate(
                database, {"type": "dummy", "session": session}, user_id
            )


async def test_what_needs_no_session_stores_none(database: Database) -> None:
    dummy = Uia("dummy", [("dummy",)], {"dummy": check_dummy})
    await dummy.authenticate(database, {"type": "dummy"}, ALICE)
    async with database.read() as tx:
        assert await tx.fetchval("SELECT count(*) FROM uia_sessions") == 0


async def test_a_stage_that_cannot_be_checked_now_is_not_refused(
    database: Database,
) -> None:
    async def busy(_auth: JsonObject, _session: UiaSession) -> bool:
        raise errors.overloaded()

    operation = Uia("busy", [("busy",)], {"busy": busy})
    with pytest.raises(errors.MatrixError) as raised:
        await operation.authenticate(database, {"type": "busy"}, ALICE)
    assert raised.value.status == 503


async def test_many_at_once_complete_one_session(database: Database) -> None:
    session = (await asked(database, None))["session"]
    auth = {**WORD, "session": session}
    results = await asyncio.gather(
        *(TWO.authenticate(database, auth, ALICE) for _ in range(5)),
        return_exceptions=True,
    )
    assert all(isinstance(result, AuthenticationNeeded) for result in results)
    done = await TWO.authenticate(
        database, {"type": "dummy", "session": session}, ALICE
    )
    assert done.completed == ["word", "dummy"]
