"""Who may have a pusher, when few have one and when too many have."""

from federation.ids import ServerName, UserId
from homeserver.push.having import Having

OURS = ServerName("ours.test")
ALICE, BOB, CAROL, STRANGER = (
    UserId(f"@{name}")
    for name in ("alice:ours.test", "bob:ours.test", "carol:ours.test", "eve:far.test")
)


def test_few_are_known_by_name() -> None:
    having = Having(OURS, most=2)
    assert not having
    having.update((ALICE, BOB))
    assert having.among({ALICE, CAROL, STRANGER}) == {ALICE}
    assert BOB in having
    assert CAROL not in having
    having.discard(ALICE)
    assert list(having) == [BOB]


def test_of_too_many_anybody_of_ours_may_be_one() -> None:
    having = Having(OURS, most=2)
    having.update((ALICE, BOB, CAROL))
    assert having
    assert having.bytes() == 0
    assert having.among({ALICE, CAROL, STRANGER}) == {ALICE, CAROL}
    having.discard(CAROL)
    assert CAROL in having
    assert STRANGER not in having
    assert None not in having
