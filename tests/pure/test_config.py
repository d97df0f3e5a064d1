"""What is wrong with a configuration is told with its line, the reason and a remedy."""

import itertools
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.config import Config, ConfigError, sample
from homeserver.config.text import locate, to_toml

REPOSITORY = Path(__file__).parents[2]


def load(tmp_path, text):
    file = tmp_path / "hearth.toml"
    file.write_text(text)
    return Config.load(file)


def problems(tmp_path, text):
    with pytest.raises(ConfigError) as failed:
        load(tmp_path, text)
    assert failed.value.file == str(tmp_path / "hearth.toml")
    return failed.value.problems


def problem(tmp_path, text):
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    return found[0]


def test_the_fixed_keys_of_the_first_release(tmp_path):
    """Other tools rely on these names, types and defaults."""
    text = """
server_name = "localhost"
data_dir = "./data"
database_url = ""
signing_key_file = ""
default_room_version = "12"
public_base_url = ""
[[listen]]
bind = "127.0.0.1"
port = 8008
serves = ["client", "federation"]
tls_certificate = ""
tls_key = ""
[registration]
mode = "closed"
shared_secret = ""
[federation]
enabled = true
verify_certificates = true
ca_file = ""
allow_addresses = []
trusted_key_servers = []
[limits]
enabled = true
[logging]
level = "info"
"""
    assert load(tmp_path, text) == load(tmp_path, "")


def test_file_names_begin_at_the_files_directory(tmp_path, monkeypatch):
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    config = load(
        tmp_path, 'signing_key_file = "/keys/it"\n[federation]\nca_file = "ca.pem"'
    )
    assert config.data_path == tmp_path / "data"
    assert config.federation.ca_file == str(tmp_path / "ca.pem")
    assert config.signing_key_path == Path("/keys/it")
    defaults = Config.load(None)
    assert defaults.data_path == tmp_path / "work" / "data"
    assert defaults.signing_key_path == tmp_path / "work" / "data" / "signing.key"


def test_an_unknown_key_names_its_line_and_the_nearest(tmp_path):
    found = problem(
        tmp_path,
        '# hello\nserver_name = "a.org"\n\n[federation]\nverify_certs = false\n',
    )
    assert found.line == 5
    assert found.text == (
        "unknown key `verify_certs` in [federation];"
        " did you mean `verify_certificates`?"
    )
    assert found.mended == "verify_certificates = false"


def test_the_message_is_one_line_for_each_problem_and_its_remedy(tmp_path):
    with pytest.raises(ConfigError) as failed:
        load(tmp_path, '[logging]\nlevel = "warn"\nformat = 7\n')
    levels = '"debug", "info", "warning", "error"'
    assert str(failed.value).splitlines() == [
        f'{tmp_path}/hearth.toml:2: `level` must be one of {levels}, not "warn"',
        '    level = "warning"',
        f'{tmp_path}/hearth.toml:3: `format` must be one of "text", "json", not 7',
    ]


def test_a_key_in_the_wrong_section_is_told_where_it_belongs(tmp_path):
    found = problem(tmp_path, '[registration]\nca_file = "x"')
    assert found.text.endswith("it belongs in [federation]")
    found = problem(tmp_path, '[logging]\nserver_name = "x"')
    assert found.text.endswith("it belongs at the top of the file, before all sections")
    found = problem(tmp_path, 'bind = "::1"')
    assert found.text.endswith("it belongs in [[listen]]")


def test_an_unknown_key_without_a_neighbour_is_told_what_there_is(tmp_path):
    found = problem(tmp_path, "[logging]\nxyzzy = 1")
    assert found.text == "unknown key `xyzzy` in [logging]; there are: level, format"


def test_sections_written_in_the_wrong_way(tmp_path):
    assert problem(tmp_path, "[listen]\nport = 1").mended == "[[listen]]"
    assert problem(tmp_path, "[federatoin]\nenabled = true").mended == "[federation]"
    assert problem(tmp_path, 'registration = "open"').mended == "[registration]"


@pytest.mark.parametrize(
    ("line", "reason", "mended"),
    [
        ('[[listen]]\nport = "8008"', "an integer from 0 to 65535", "port = 8008"),
        ("[[listen]]\nport = 65536", "an integer from 0 to 65535", ""),
        ("[[listen]]\nport = true", "an integer from 0 to 65535", ""),
        ("[[listen]]\nport = 80.5", "an integer from 0 to 65535", ""),
        ('[[listen]]\nserves = "client"', "a list, not", 'serves = ["client"]'),
        ("[[listen]]\nserves = []", "a list, not empty, of any of", ""),
        ('[[listen]]\nserves = ["web"]', "a list, not empty, of any of", ""),
        ('[federation]\nenabled = "yes"', "true or false", "enabled = true"),
        ("[federation]\nenabled = 0", "true or false", "enabled = false"),
        ("\ndefault_room_version = 12", "a string", 'default_room_version = "12"'),
        ("\ndatabase_pool_size = 1", "an integer from 2 to 90", ""),
        ("\ndata_dir = 1979-05-27", "a string", ""),
        ("[registration]\nmode = 'Open'", "one of", 'mode = "open"'),
    ],
)
def test_a_wrong_type_names_its_line_the_right_type_and_a_remedy(
    tmp_path, line, reason, mended
):
    found = problem(tmp_path, line)
    assert found.line == 2
    assert f"must be {reason}" in found.text
    assert found.mended == mended


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('server_name = "not a name"', "is not a server name"),
        ('server_name = "a.org:99999"', "bad port"),
        ('data_dir = " "', "must not be empty"),
        ('database_url = "mysql://x/y"', "must begin with postgresql://"),
        ('database_url = "postgresql://x"', "must end with the name of a database"),
        ('database_url = "postgresql://[::1/x"', "is not a URL"),
        ('default_room_version = "99"', "there is no room version '99'"),
        ('public_base_url = "matrix.org"', "must look like https://"),
        ('public_base_url = "https://a.org?x"', "must look like https://"),
        ('public_base_url = "https://a.org:x"', "is not a URL"),
        ('[[listen]]\nbind = "a b"', "'a b' is no address"),
        (
            '[federation]\nallow_addresses = ["10.0.0.1/8"]',
            "did you mean '10.0.0.0/8'?",
        ),
        ('[federation]\nallow_addresses = ["home"]', "does not appear to be"),
        ('[federation]\ntrusted_key_servers = ["a b"]', "is not a server name"),
        ('[limits]\ntrusted_proxies = ["proxy"]', "does not appear to be"),
        ('[federation]\nca_file = "none.pem"', "there is no readable file"),
        ('[[listen]]\ntls_certificate = "hearth.toml"', "`tls_key` is missing"),
        ('[[listen]]\ntls_key = "hearth.toml"', "`tls_certificate` is missing"),
        ("[[listen]]\n[[listen]]", "two [[listen]] have 127.0.0.1, port 8008"),
    ],
)
def test_a_value_that_means_nothing_is_refused(tmp_path, line, reason):
    found = problem(tmp_path, line)
    assert reason in found.text
    assert found.line is not None


def test_everything_wrong_is_told_at_once_in_order(tmp_path):
    text = 'srever_name = "x"\n[[listen]]\nport = -1\n[[listen]]\nbind = 3\n[limit]\n'
    assert [p.line for p in problems(tmp_path, text)] == [1, 3, 5, 6]


def test_several_listeners(tmp_path):
    config = load(tmp_path, '[[listen]]\n[[listen]]\nport = 8448\nbind = "::"\n')
    assert [(one.bind, one.port) for one in config.listen] == [
        ("127.0.0.1", 8008),
        ("::", 8448),
    ]


def test_what_is_private_is_never_shown(tmp_path):
    for text in (
        '[registration]\nshared_secrets = "hush-hush"',
        "[registration]\nshared_secret = ['hush-hush']",
        'database_urls = "postgresql://a:hush-hush@b/c"',
        "database_url = ['postgresql://a:hush-hush@b/c']",
        "database_url = 'mysql://a:hush-hush@b/c'",
    ):
        with pytest.raises(ConfigError) as failed:
            load(tmp_path, text)
        assert "hush" not in str(failed.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Config.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Config.load(tmp_path)
    (tmp_path / "hearth.toml").write_bytes(b'a = 1\nb = "\xff"\n')
    with pytest.raises(ConfigError, match=r"hearth\.toml:2: this is not UTF-8"):
        Config.load(tmp_path / "hearth.toml")


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \nc = 2", 2), ("a = 1\na = 2", 2), ("[x\n", 1), ("a = 'x", 1)],
)
def test_what_is_not_toml_names_its_line(tmp_path, text, line):
    found = problem(tmp_path, text)
    assert found.text.startswith("this is not TOML: ")
    assert found.line in (line, None)


def test_the_sample_is_complete_means_the_defaults_and_is_kept_up_to_date(tmp_path):
    text = sample.render()
    assert load(tmp_path, text) == load(tmp_path, "")
    kept = (REPOSITORY / "config" / "hearth.sample.toml").read_text()
    assert kept == text, "make it new with `hearth config sample`"
    assert max(map(len, text.splitlines())) <= 88


def test_the_sample_takes_values(tmp_path):
    text = sample.render({"server_name": "a.org", "public_base_url": "https://b.org"})
    assert load(tmp_path, text).server_name == "a.org"


# ── Places ──


def test_places_in_all_the_ways_toml_can_be_written():
    text = '''
a.b = 1
"c d" = """
e = 2
"""
f = [ # }
  "]", # e = 3
  { g = 4 },
]
[h] # i
'j' = { k = [1,
2], l = """x""""" }
m = 'x\\'
[[n]]
[[n]]
o = 5
[n.p]
q = 6
[[n.r]]
s = 7
'''
    tomllib.loads(text)
    places = locate(text)
    lines = {
        ("a",): 2,
        ("a", "b"): 2,
        ("c d",): 3,
        ("f",): 6,
        ("f", 1, "g"): 6,
        ("h",): 10,
        ("h", "j", "k"): 11,
        ("h", "m"): 13,
        ("n", 0): 14,
        ("n", 1): 15,
        ("n", 1, "o"): 16,
        ("n", 1, "p", "q"): 18,
        ("n", 1, "r", 0, "s"): 20,
    }
    assert {path: places.line(path) for path in lines} == lines
    assert places.line(("e",)) is None


KEYS = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, VALUES), st.lists(st.sampled_from(["", "# x", "  "])))
def test_any_value_survives_toml_and_every_key_is_found(table, padding):
    lines = list(padding)
    expected = {}
    for key, value in table.items():
        expected[key] = len(lines) + 1
        lines.append(f"{key} = {to_toml(value)} # {key}")
    text = "\n".join(lines)
    assert tomllib.loads(text) == table
    assert {key: locate(text).line((key,)) for key in table} == expected


@given(st.lists(st.tuples(KEYS, st.dictionaries(KEYS, VALUES, max_size=2)), max_size=4))
def test_keys_of_repeated_sections_are_found(sections):
    lines, expected, counts = [], {}, {}
    for name, table in sections:
        lines.append(f"[[{name}]]")
        number = counts.setdefault(name, itertools.count())
        at = next(number)
        for key, value in table.items():
            lines.append(f"{key} = {to_toml(value)}")
            expected[name, at, key] = len(lines)
    places = locate("\n".join(lines))
    assert {path: places.line(path) for path in expected} == expected
