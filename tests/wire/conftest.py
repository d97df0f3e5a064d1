from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wire_support import Wire

from homeserver.demo.certificates import CertificateAuthority


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create()


@pytest.fixture
async def wire(tmp_path: Path, authority: CertificateAuthority) -> AsyncIterator[Wire]:
    world = Wire(tmp_path, authority)
    yield world
    await world.close()
