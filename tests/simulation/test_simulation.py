"""A hundred seeds of the simulation; thousands by `python -m tests.simulation`."""

import os

import pytest

from homeserver.db.embedded import EmbeddedPostgres
from tests.conftest import dsn_of
from tests.simulation.share import share_out

SEEDS = int(os.environ.get("HEARTH_SIMULATION_SEEDS", "100"))
JOBS = 2


@pytest.mark.timeout(900)
async def test_after_faults_all_servers_have_one_room(
    postgres: EmbeddedPostgres, database_template: str
) -> None:
    failures = await share_out(
        dsn_of(postgres, "postgres"), database_template, range(SEEDS), JOBS
    )
    assert not failures, "\n".join(failures)
