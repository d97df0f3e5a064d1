"""How long a room's messages are kept. MSC1763."""

import pytest

from homeserver.live.retention import Lifetimes


@pytest.mark.parametrize(
    ("lives", "content", "expected"),
    [
        (Lifetimes(), None, None),
        (Lifetimes(default=5), None, 5),
        (Lifetimes(default=5), {}, None),
        (Lifetimes(), {"max_lifetime": 7}, 7),
        (Lifetimes(), {"max_lifetime": 0}, 0),
        (Lifetimes(), {"max_lifetime": None}, None),
        (Lifetimes(), {"max_lifetime": -1}, None),
        (Lifetimes(), {"max_lifetime": True}, None),
        (Lifetimes(), {"max_lifetime": "7"}, None),
        (Lifetimes(), {"max_lifetime": 2**53}, None),
        (Lifetimes(), {"min_lifetime": 7}, None),
        (Lifetimes(least=10), {"max_lifetime": 7}, 10),
        (Lifetimes(least=10), {}, 10),
        (Lifetimes(most=10), {"max_lifetime": 70}, 10),
        (Lifetimes(most=10), {}, None),
        (Lifetimes(least=10, most=20), {"max_lifetime": 15}, 15),
    ],
)
def test_the_effective_policy(lives, content, expected):
    assert lives.of(content) == expected
