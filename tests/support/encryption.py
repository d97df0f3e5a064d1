"""A device's keys and signatures, made as crypto libraries make them."""

from dataclasses import dataclass, field

from federation.canonical_json import JsonObject
from federation.ids import KeyId
from federation.signatures import SigningKey, encode_base64, sign_json
from tests.support.api import Api, Json, path
from tests.support.client import Client

OLM = "signed_curve25519"


def _b64() -> str:
    return encode_base64(SigningKey.generate("x").public)


@dataclass
class Device:
    """The private part of a device, and of its user's cross-signing keys."""

    user: Client
    key: SigningKey = field(init=False)
    curve: str = field(default_factory=_b64)
    master: SigningKey | None = None
    self_signing: SigningKey | None = None
    user_signing: SigningKey | None = None

    def __post_init__(self) -> None:
        self.key = SigningKey.generate(self.user.device_id)

    def sign(self, value: JsonObject) -> JsonObject:
        return sign_json(value, self.user.user_id, self.key)

    def keys(self, **more: object) -> JsonObject:
        """Identity keys, signed by the device."""
        device_id = self.user.device_id
        return self.sign(
            {
                "user_id": self.user.user_id,
                "device_id": device_id,
                "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
                "keys": {
                    f"curve25519:{device_id}": self.curve,
                    f"ed25519:{device_id}": encode_base64(self.key.public),
                },
                **more,
            }
        )

    def one_time_key(self, **more: object) -> JsonObject:
        return self.sign({"key": _b64(), **more})

    def one_time_keys(self, *names: str) -> JsonObject:
        return {f"{OLM}:{name}": self.one_time_key() for name in names}

    async def uploads(self, **body: object) -> Json:
        return await self.user.post(path("keys", "upload"), body)

    async def publishes(self, *names: str, fallback: str = "") -> Json:
        """Upload identity keys, one-time keys of these names, a fallback key."""
        body: dict[str, object] = {"device_keys": self.keys()}
        if names:
            body["one_time_keys"] = self.one_time_keys(*names)
        if fallback:
            body["fallback_keys"] = {
                f"{OLM}:{fallback}": self.one_time_key(fallback=True)
            }
        return await self.uploads(**body)

    # Cross-signing

    def cross_signing_key(
        self, usage: str, key: SigningKey, by: SigningKey | None = None
    ) -> JsonObject:
        public = encode_base64(key.public)
        value: JsonObject = {
            "user_id": self.user.user_id,
            "usage": [usage],
            "keys": {f"ed25519:{public}": public},
        }
        return value if by is None else sign_json(value, self.user.user_id, by)

    def new_cross_signing(self) -> Json:
        """New keys of all three kinds, as they are uploaded."""
        self.master, self.self_signing, self.user_signing = (
            _named_by_itself() for _ in range(3)
        )
        return {
            "master_key": self.cross_signing_key("master", self.master),
            "self_signing_key": self.cross_signing_key(
                "self_signing", self.self_signing, self.master
            ),
            "user_signing_key": self.cross_signing_key(
                "user_signing", self.user_signing, self.master
            ),
        }


def _named_by_itself() -> SigningKey:
    key = SigningKey.generate("x")
    return SigningKey(KeyId(f"ed25519:{encode_base64(key.public)}"), key.key)


async def keys_of(who: Api, *users: Client, **body: object) -> Json:
    wanted = {user.user_id: [] for user in users}
    return await who.post(path("keys", "query"), {"device_keys": wanted, **body})


async def claims(who: Api, *devices: Client, algorithm: str = OLM) -> Json:
    """Claim a key of each device; the reply."""
    wanted: dict[str, dict[str, str]] = {}
    for device in devices:
        wanted.setdefault(device.user_id, {})[device.device_id] = algorithm
    return await who.post(path("keys", "claim"), {"one_time_keys": wanted})


def names_in(reply: Json, device: Client) -> list[str]:
    """The names of the keys that a claim gave of a device, without the algorithm."""
    keys = reply["one_time_keys"].get(device.user_id, {}).get(device.device_id, {})
    return [name.partition(":")[2] for name in keys]


_transactions = iter(range(1, 10**9))


async def sends_to(
    who: Client, contents: Json, kind: str = "m.test", txn: str | None = None
) -> Json:
    txn = txn or f"d{next(_transactions)}"
    return await who.put(path("sendToDevice", kind, txn), {"messages": contents})
