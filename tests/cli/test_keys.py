"""`hearth keys rotate` as an administrator meets it."""

import sys

import pytest

from homeserver import signing_key
from homeserver.cli.main import main

CONFIG = 'server_name = "example.org"\ndata_dir = "data"\n'


@pytest.fixture
def hearth(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hearth.toml").write_text(CONFIG)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["hearth", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out + said.err

    return run


def test_rotation_keeps_the_old_key_until_the_server_has_started_anew(hearth, tmp_path):
    path = tmp_path / "data" / "signing.key"
    old = signing_key.read_or_make(path)
    status, said = hearth("keys", "rotate")
    assert status == 0
    assert old.key_id in said
    new = signing_key.read_or_make(path)
    assert new.key_id in said
    assert new.key_id != old.key_id
    assert path.stat().st_mode & 0o077 == 0
    for now in (5000, 6000):  # it expires when it is first not used any more
        retired = signing_key.read_old(path, new, now)
        assert retired[old.key_id].public == old.public
        assert retired[old.key_id].expired_ts == 5000


def test_without_a_key_there_is_nothing_to_rotate(hearth, tmp_path):
    status, said = hearth("keys", "rotate")
    assert status != 0
    assert "cannot read the signing key" in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("data/signing*"))


def test_a_spoiled_list_of_old_keys_is_not_overwritten(hearth, tmp_path):
    path = tmp_path / "data" / "signing.key"
    key = signing_key.read_or_make(path)
    signing_key.old_path(path).write_text("nonsense\n")
    status, said = hearth("keys", "rotate")
    assert status != 0
    assert "ed25519 VERSION KEY EXPIRED_TS" in said.replace("\n", " ")
    assert signing_key.read_or_make(path).key_id == key.key_id
