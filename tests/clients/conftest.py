"""Our server as a process, for client libraries that other people wrote."""

from collections.abc import AsyncIterator

import pytest

from tests.support.certificates import CertificateAuthority
from tests.support.hearth import Hearth


@pytest.fixture(scope="session")
async def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Hearth]:
    folder = tmp_path_factory.mktemp("clients")
    async with Hearth(folder / "hearth", CertificateAuthority.create()) as hearth:
        yield hearth
