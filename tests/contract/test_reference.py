"""The specification's endpoints are built, or named; the reference page is true."""

from pathlib import Path

import pytest

from homeserver.app import ENDPOINTS
from homeserver.http.features import FEATURES
from homeserver.http.reference import first_sentence, render
from homeserver.http.routes import collect
from tests.contract.missing import MISSING, OF_OTHERS
from tests.support import openapi

PAGE = Path(__file__).parents[2] / "docs" / "endpoints.md"
ROUTES = collect(ENDPOINTS)


@pytest.fixture(scope="module")
def specified() -> set[str]:
    """What clients and servers may ask for, as the table of the specification says."""
    if not openapi.is_there():
        pytest.skip("the specification is not at hand")
    lines = (openapi.ROOT / "endpoints.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return {f"{method} {path}" for api, method, path, *_ in rows if api in openapi.APIS}


def built() -> set[str]:
    return {f"{route.method} {path}" for route in ROUTES for path in route.paths()}


def named() -> list[str]:
    return [endpoint for endpoints in MISSING.values() for endpoint in endpoints]


def test_every_endpoint_of_the_specification_is_built_or_named(specified) -> None:
    assert specified - built() - set(named()) - OF_OTHERS == set()
    assert specified - built() - set(named()) >= OF_OTHERS


def test_what_is_named_as_missing_is_missing(specified) -> None:
    assert set(named()) & built() == set(), "built: take it off tests/contract/missing"
    assert set(named()) - specified == set()
    assert len(named()) == len(set(named()))


def test_the_reference_page_is_up_to_date() -> None:
    told = "make it new with `make endpoints`"
    assert PAGE.read_text() == render(ROUTES), told


def test_every_endpoint_says_what_it_does() -> None:
    for route in ROUTES:
        sentence = first_sentence(route)
        assert len(sentence) > 5, route.operation
        assert "Raises" not in sentence, route.operation


def test_a_flag_stands_once_and_its_routes_are_listed() -> None:
    flags = [feature.flag for feature in FEATURES]
    assert len(flags) == len(set(flags))
    page = render(ROUTES)
    for route in ROUTES:
        for path in (route.path, *route.aliases):
            assert f"`{path}`" in page
