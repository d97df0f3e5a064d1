"""What calls go over, as clients are told."""

import base64
import hashlib
import hmac
import time

import pytest

from homeserver.calls.turn import credentials
from homeserver.config import Calls
from tests.support.api import RefusedError

TURN = "/_matrix/client/v3/voip/turnServer"
TRANSPORTS = (
    "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports",
    "/_matrix/client/v1/rtc/transports",
)
URIS = ["turn:turn.test?transport=udp", "turns:turn.test"]


async def test_without_configuration_there_is_nothing_to_tell(alice):
    assert await alice.get(TURN) == {}
    for where in TRANSPORTS:
        assert await alice.get(where) == {"rtc_transports": []}


@pytest.mark.parametrize("where", [TURN, *TRANSPORTS])
async def test_strangers_are_told_nothing(hearth, where):
    with pytest.raises(RefusedError) as error:
        await hearth.nobody.get(where)
    assert (error.value.status, error.value.errcode) == (401, "M_MISSING_TOKEN")


async def test_transports_are_told_in_order(another, person):
    urls = ["https://one.test", "https://two.test/path"]
    user = await person(await another(calls={"livekit_urls": urls}))
    told = [{"type": "livekit", "livekit_service_url": url} for url in urls]
    for where in TRANSPORTS:
        assert await user.get(where) == {"rtc_transports": told}
    versions = await user.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc4143"] is True


async def test_passwords_for_turn_end_by_themselves(another, person):
    calls = {"turn_uris": URIS, "turn_shared_secret": "s3", "turn_lifetime_s": 600}
    user = await person(await another(calls=calls))
    told = await user.get(TURN)
    end, _, user_id = told["username"].partition(":")
    assert user_id == user.user_id
    assert 0 < int(end) - time.time() <= 600
    mac = hmac.new(b"s3", told["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(told["password"]) == mac
    assert (told["ttl"], told["uris"]) == (600, URIS)


def test_a_fixed_password_is_told_as_it_is():
    calls = Calls(turn_uris=tuple(URIS), turn_username="u", turn_password="p")
    told = credentials(calls, "@a:b", 1)
    assert (told["username"], told["password"]) == ("u", "p")


@pytest.mark.parametrize(
    "keys",
    [
        {"turn_username": "u"},
        {"turn_password": "p"},
        {"turn_uris": ("turn:x",)},
    ],
)
def test_half_a_configuration_is_refused(keys):
    with pytest.raises(ValueError, match="is missing"):
        Calls(**keys)
