"""What is told of the server at .well-known."""

import pytest

from tests.support.api import RefusedError

CLIENT = "/.well-known/matrix/client"
SUPPORT = "/.well-known/matrix/support"
URL = "https://matrix.hearth.test"


async def test_clients_are_told_what_the_configuration_says(another):
    server = await another(
        public_base_url=URL,
        calls={"livekit_urls": ["https://rtc.hearth.test"]},
        clients={
            "encryption_by_default": False,
            "require_secure_backup": True,
            "map_style_url": "https://maps.hearth.test/style.json?key=1",
        },
    )
    assert await server.nobody.get(CLIENT) == {
        "m.homeserver": {"base_url": URL},
        "org.matrix.msc4143.rtc_foci": [
            {"type": "livekit", "livekit_service_url": "https://rtc.hearth.test"}
        ],
        "io.element.e2ee": {"default": False, "secure_backup_required": True},
        "m.tile_server": {"map_style_url": "https://maps.hearth.test/style.json?key=1"},
    }


async def test_without_more_they_are_told_where_it_is(another):
    server = await another(public_base_url=URL)
    assert await server.nobody.get(CLIENT) == {"m.homeserver": {"base_url": URL}}


async def test_support_names_those_who_are_configured(another):
    server = await another(
        support={
            "page": "https://hearth.test/help",
            "admin_email": "admin@hearth.test",
            "security_matrix_id": "@security:elsewhere.test",
        }
    )
    assert await server.nobody.get(SUPPORT) == {
        "contacts": [
            {"role": "m.role.admin", "email_address": "admin@hearth.test"},
            {"role": "m.role.security", "matrix_id": "@security:elsewhere.test"},
        ],
        "support_page": "https://hearth.test/help",
    }


async def test_support_is_not_found_where_nobody_is_named(hearth):
    with pytest.raises(RefusedError) as error:
        await hearth.nobody.get(SUPPORT)
    assert (error.value.status, error.value.errcode) == (404, "M_NOT_FOUND")


async def test_the_key_of_a_policy_server_is_told_where_one_is_configured(another):
    key = "6yhHGKhCiXTSEN2ksjV7kX/N6rBQZ3Xb+M7LlC6NS+s"
    server = await another(policy_servers={"public_key": key})
    told = await server.nobody.get("/.well-known/matrix/policy_server")
    assert told == {"public_keys": {"ed25519": key}}


async def test_no_policy_server_is_told_of_without_configuration(hearth):
    with pytest.raises(RefusedError) as error:
        await hearth.nobody.get("/.well-known/matrix/policy_server")
    assert (error.value.status, error.value.errcode) == (404, "M_NOT_FOUND")
