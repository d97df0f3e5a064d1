"""What providers say, and what is made of it."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.ids import parse_new_localpart
from homeserver.clock import Clock
from homeserver.config.sign_on import OidcProvider
from homeserver.sign_on import claims
from homeserver.sign_on.calls import Calls
from homeserver.sign_on.identity import NotIdentified
from homeserver.sign_on.oidc import Oidc

ISSUER = "https://login.example.org"
SAID: dict[str, Any] = {
    "sub": "a-1",
    "preferred_username": "Ada.Lovelace@example.org",
    "address": {"locality": "London"},
    "groups": ["staff", "pupils"],
    "age": 36,
    "is_staff": True,
}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("", ""),
        ("{sub}", "a-1"),
        ("{sub} of {address.locality}", "a-1 of London"),
        ("{nobody}", ""),
        ("{sub} {address.street}", ""),
        ("{sub.more}", ""),
        ("{groups} {age}", "staff 36"),
        ("{__class__}{is_staff}", ""),
    ],
)
def test_claims_are_filled_in(template: str, filled: str) -> None:
    assert claims.fill(template, SAID) == filled


@given(st.text())
def test_a_name_is_one_that_an_account_can_have(text: str) -> None:
    found = claims.localpart("{name}", {"name": text})
    assert not found or parse_new_localpart(found[:100]) == found[:100]
    assert claims.localpart("{preferred_username}", SAID) == "ada.lovelace"


@pytest.mark.parametrize(
    ("required", "lacking"),
    [
        ([], ""),
        (["groups=staff"], ""),
        (["groups=heads", "groups=pupils"], ""),
        (["groups=heads"], "groups"),
        (["groups=staff", "hd=example.org"], "hd"),
        (["is_staff=true", "age=36", "address.locality=London"], ""),
        (["is_staff=True"], "is_staff"),
        (["nobody=None"], "nobody"),
    ],
)
def test_only_those_may_come_whom_the_operator_wants(
    required: list[str], lacking: str
) -> None:
    assert claims.lacking(required, SAID) == lacking


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"iss": f"{ISSUER}/"},
        {"aud": "another"},
        {"aud": []},
        {"aud": ["hearth", "another"]},
        {"azp": "another"},
        {"exp": 0},
        {"exp": None},
        {"exp": True},
        {"iat": 10**10},
        {"iat": None},
        {"sub": ""},
        {"sub": "a\0"},
        {"sub": 7},
        {"sub": "x" * 256},
    ],
)
async def test_a_token_of_somebody_else_or_another_time_is_refused(
    change: dict[str, Any],
) -> None:
    provider = Oidc(
        OidcProvider(id="a", issuer=ISSUER, client_id="hearth"),
        Calls.__new__(Calls),
        Clock(),
    )
    now = int(time.time())
    good = {"iss": ISSUER, "aud": "hearth", "sub": "a", "iat": now, "exp": now - 30}
    provider.check_claims(good)
    with pytest.raises(NotIdentified):
        provider.check_claims({**good, **change})
