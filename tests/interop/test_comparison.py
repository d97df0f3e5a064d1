"""Our replies beside those of a real Synapse, request by request.

Every difference is ours to mend, or stands in comparison_differences.py with the
paragraph that says we are right.
"""

import itertools
import re

import pytest

from tests.interop.comparison import Outcome, Player
from tests.interop.comparison_differences import ANYWHERE, DIFFERENCES
from tests.interop.comparison_steps import STEPS
from tests.support.client import Client
from tests.support.homeserver import Homeserver
from tests.support.synapse import Synapse

Outcomes = dict[str, Outcome]
_numbers = itertools.count(1)


async def play(server: Homeserver) -> Outcomes:
    number = next(_numbers)
    people = {
        name: await server.registers(f"{name}{number}compared")
        for name in ("alice", "bob", "carol")
    }
    some = people["alice"]
    people["nobody"] = Client(some.http, some.base_url)
    people["forger"] = Client(some.http, some.base_url, "nonsense")
    player = Player(people, server.name)
    return {step.name: await player.plays(step) for step in STEPS}


@pytest.fixture(scope="module")
async def outcomes(ours: Homeserver, peer: Synapse) -> tuple[Outcomes, Outcomes]:
    return await play(ours), await play(peer)


def test_steps_have_names_of_their_own() -> None:
    names = [step.name for step in STEPS]
    assert len(names) == len(set(names))
    assert set(DIFFERENCES) <= set(names)


@pytest.mark.parametrize("name", [step.name for step in STEPS])
async def test_we_answer_alike_or_as_the_specification_says(
    name: str, outcomes: tuple[Outcomes, Outcomes]
) -> None:
    ours, theirs = outcomes
    found = [
        line
        for line in ours[name].differences(theirs[name])
        if not any(re.search(pattern, line) for pattern, _ in ANYWHERE)
    ]
    _, expected = DIFFERENCES.get(name, ("", ()))
    assert found == list(expected)
