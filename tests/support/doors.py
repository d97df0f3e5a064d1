"""Our server as a process behind doors that can be shut, to clients and to servers."""

from pathlib import Path

from homeserver.demo.certificates import CertificateAuthority
from tests.support.hearth import Hearth
from tests.support.homeserver import HOST
from tests.support.sites import Balancer


class HearthBehindDoors(Hearth):
    """A `hearth serve` that everybody reaches through a proxy which a test can stop."""

    def __init__(
        self,
        directory: Path,
        authority: CertificateAuthority,
        for_clients: Balancer,
        for_servers: Balancer,
    ) -> None:
        super().__init__(directory, authority)
        self.for_clients, self.for_servers = for_clients, for_servers
        for_clients.targets = [self.client_port]
        for_servers.targets = [self.federation_port]
        self.name = f"localhost:{for_servers.port}"
        self.base_url = f"http://{HOST}:{for_clients.port}"

    @classmethod
    async def make(
        cls, directory: Path, authority: CertificateAuthority
    ) -> "HearthBehindDoors":
        """A server with open doors, not started."""
        doors = Balancer(), Balancer()
        for door in doors:
            await door.start()
        return cls(directory, authority, *doors)

    async def end(self) -> None:
        """Stop the server and take the doors away."""
        await self.stop()
        await self.for_clients.stop()
        await self.for_servers.stop()
