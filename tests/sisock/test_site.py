"""Site files: what is right, and how what is wrong is told."""

import os
import stat
from pathlib import Path

import pytest

from sisock.access import access_from_environment
from sisock.errors import SiteError
from sisock.nodetype import NodeSettings, node_types
from sisock.settings import HistorySettings
from sisock.site import check_site, load_secrets, load_site

SECRETS = "server: {user: s, secret: one}\nconsumer: {user: c, secret: two}\n"


@pytest.fixture
def site(tmp_path):
    def write(text, secrets=SECRETS):
        (tmp_path / "site.yaml").write_text(text)
        path = tmp_path / "secrets.yaml"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets)
        return tmp_path / "site.yaml"

    return write


def problems(path):
    with pytest.raises(SiteError) as caught:
        load_site(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_empty_site_is_a_router_on_loopback_and_a_hub(site):
    loaded = load_site(site(""))
    assert (loaded.router.host, loaded.router.port, loaded.rawsocket_port) == ("127.0.0.1", 8080, 8081)
    assert loaded.hub
    assert loaded.nodes == {}
    assert loaded.realm == "test_realm"


def test_every_problem_is_told_with_its_line_and_key(site):
    path = site("""\
router:
  port: 80800
  colour: red
nodes:
  host: {type: host}
""")
    assert problems(path) == [
        "2: router.port: input should be less than or equal to 65535 (it is 80800)",
        "3: router.colour: is not a key that is known here",
    ]
    path = site("""\
nodes:
  one: {type: host, colour: red}
  two: {type: nothing}
  three:
  a b: {type: host}
  four:
    type: host
    intervals:
      cpu: fast
""")
    told = problems(path)
    assert [line.partition(": ")[0] for line in told] == ["2", "3", "4", "5", "9"]
    assert "nodes.one.colour: is not a key" in told[0]
    assert f"type 'nothing' is not known; installed: {', '.join(node_types())}" in told[1]
    assert f"nodes.three: has no type; give one of: {', '.join(node_types())}" in told[2]
    assert "is not a valid name for a node" in told[3]
    assert "nodes.four.intervals.cpu: 'fast' is not a valid duration" in told[4]


def test_slip_in_a_key_or_a_type_is_told_with_what_is_meant(site):
    path = site("""\
router:
  hots: 127.0.0.1
nods: {}
nodes:
  one: {type: hots}
  two:
    type: host
    history:
      keap: 90d
      keep: 90 dayz
  three:
    type: table
    path: a.csv
    fields: {a: {unit: m}}
""")
    assert problems(path) == [
        "2: router.hots: is not a key that is known here; did you mean host?",
        "3: nods: is not a key that is known here; did you mean nodes?",
        f"5: nodes.one: type 'hots' is not known; did you mean host? installed: {', '.join(node_types())}",
        "9: nodes.two.history.keap: is not a key that is known here; did you mean keep?",
        "10: nodes.two.history.keep: '90 dayz' is not a valid duration; give seconds, or numbers with w, d, h, m, s or "
        "ms: 1h30m",
        "14: nodes.three.fields.a.unit: is not a key that is known here; did you mean units?",
    ]


def checked(path):
    with pytest.raises(SiteError) as caught:
        check_site(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_check_finds_all_that_is_wrong_in_one_run(site, tmp_path):
    path = site("""\
router:
  port: 80800
gateway: false
nodes:
  a b: {type: host, colour: red}
  rig:
    type: udp
  weather:
    type: table
    path: nowhere.csv
  old:
    type: file
    path: /no/such.parquet
  host:
    type: host
    history:
      path: site.yaml/history
  7: {type: host}
  x: 5
  k: {type: recorder}
state: secrets.yaml
""")
    (tmp_path / "secrets.yaml").chmod(0o644)
    assert checked(path) == [
        "2: router.port: input should be less than or equal to 65535 (it is 80800)",
        "5: nodes.a b: 'a b' is not a valid name for a node; use letters, digits, -, _ and single dots",
        "5: nodes.a b.colour: is not a key that is known here",
        "6: nodes.rig.port: is missing",
        f"10: nodes.weather.path: {tmp_path}/nowhere.csv does not exist; a relative path starts from the folder of the "
        "site file",
        "13: nodes.old.path: /no/such.parquet does not exist; a relative path starts from the folder of the site file",
        f"17: nodes.host.history.path: {path} is a file; give a folder",
        "18: nodes.7: 7 is not a text, and so not a valid name for a node; write it in quotes",
        "19: nodes.x: is 5; a node is a mapping, with at least its type",
        "20: nodes.k: a recorder keeps what it records on disk; set history.path",
        f"21: state: {tmp_path}/secrets.yaml is a file; give a folder",
        f"{tmp_path}/secrets.yaml: can be read by others; run: chmod 600 {tmp_path}/secrets.yaml",
    ]


def test_check_looks_for_what_other_parts_name(site, tmp_path):
    path = site("""\
router: {url: 'wss://lab:1/ws', ca: lab.pem}
nodes:
  bus:
    type: kafka
    servers: a:1
    topics: [t]
    format: avro
    registry: {url: 'http://r', ca: no.pem}
""")
    told = checked(path)
    assert (
        f"1: router.ca: {tmp_path}/lab.pem does not exist; a relative path starts from the folder of the site file"
        in told
    )
    assert any(line.startswith(f"8: nodes.bus.registry.ca: {tmp_path}/no.pem does not exist") for line in told), told


def test_error_in_one_part_of_a_site_makes_none_in_another(site):
    assert problems(site("router: {port: x}\ngateway: {port: 8080}")) == [
        '1: router.port: input should be a valid integer, unable to parse string as an integer (it is "x")'
    ]
    assert problems(site("1: 2\nnodes: {a: {type: udp}}")) == [
        "1: 1: keys should be strings (it is 1)",
        "2: nodes.a.port: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("router: [", "1: is not YAML: "),
        ("a: 1\na: 2", "2: is not YAML: found duplicate key"),
        ("- 1", "1: a site file is a mapping"),
        ("router: 7", "1: router: input should be"),
        ("realm: x", "1: realm: string should have at least 3 characters"),
        ("router: {url: 'http://x'}", "has no scheme that is known; give ws, wss, rs, rss or unix:"),
        ("router: {host: 0.0.0.0}", "can be reached from other machines, and there is no tls"),
        ("router: {tls: {}}", "is not there; run `sisock init --tls`"),
        ("router: {port: 9000, rawsocket_port: 9000}", "RawSocket needs a port of its own"),
        ("router: {port: 9000, ocs: {port: 9001}}", "router.ocs.port: 9001 is a port of the router or the gateway"),
        ("gateway: {port: 8001}\nrouter: {ocs: {}}", "router.ocs.port: 8001 is a port of the router or the gateway"),
        (
            "base_uri: observatory\nrouter: {ocs: {}}",
            "1: base_uri: observatory lies in observatory., where `router.ocs`",
        ),
        ("base_uri: observatory.lab\nrouter: {ocs: {}}", "lets anybody register, call and publish without a login"),
        ("gateway: {host: 0.0.0.0}", "gateway: host 0.0.0.0 can be reached from other machines, and there is no tls"),
        ("gateway: {tls: {}}", "gateway.tls: certificate"),
        ("gateway: {port: 8080}", "gateway.port: 8080 is a port of the router; give another"),
        ("gateway: {colour: red}", "gateway"),
        ("router: {max_message_size: 99999999}", "less than or equal to 16777216"),
        ("nodes: {a: {type: [host]}}", "nodes.a: type ['host'] is not known; installed: "),
        ("nodes: {a: {type: {host: 1}}}", "nodes.a: type {'host': 1} is not known"),
        ('nodes: {a: {type: host, history: {path: "\\0"}}}', "a path cannot have a null character in it"),
        ("realm: 2020-99-99", "is not YAML that can be read: month must be in 1..12"),
        ("realm: !!int x", "is not YAML that can be read: invalid literal"),
        ("realm: a\x1bb", "is not YAML that can be read: "),
        ("x: " + "[" * 3000 + "]" * 3000, "is nested too deeply"),
    ],
)
def test_what_is_wrong_is_told_plainly(site, text, problem):
    assert any(problem in line for line in problems(site(text)))


def test_other_uris_stand_beside_those_of_ocs(site):
    for base_uri in ("observatories", "org.observatory"):
        load_site(site(f"base_uri: {base_uri}\nrouter: {{ocs: {{}}}}"))
    load_site(site("base_uri: observatory"))  # without OCS


def test_plain_text_beyond_loopback_needs_the_explicit_word(site):
    assert load_site(site("router: {host: 0.0.0.0, plain: true}")).router.host == "0.0.0.0"
    for host in ("127.0.0.5", "::1", "localhost"):
        load_site(site(f"router: {{host: '{host}'}}"))


def test_gateway_runs_where_the_router_does(site):
    assert load_site(site("")).gateway.url == "http://127.0.0.1:8082/"
    assert load_site(site("gateway: {host: '::1', port: 81}")).gateway.url == "http://[::1]:81/"
    assert load_site(site("gateway: {host: 0.0.0.0, plain: true}")).gateway.host == "0.0.0.0"
    assert load_site(site("gateway: false")).gateway is None
    elsewhere = "router: {url: 'ws://a:1'}"
    assert load_site(site(elsewhere)).gateway is None
    assert load_site(site(f"{elsewhere}\ngateway: true")).gateway is not None


def test_file_that_is_missing_or_no_text_is_told(tmp_path):
    with pytest.raises(SiteError, match="there is no such site file; run `sisock init`"):
        load_site(tmp_path)
    (tmp_path / "site.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SiteError, match="is not UTF-8 text"):
        load_site(tmp_path)


def test_paths_start_from_the_folder_of_the_file(site, tmp_path):
    path = site("nodes: {t: {type: table, path: data.csv}}\nstate: var")
    assert load_site(path).nodes["t"].path == tmp_path / "data.csv"
    assert load_site(path).state == tmp_path / "var"
    assert load_site(path).secrets_path == tmp_path / "secrets.yaml"


def test_path_of_a_site_is_shown_without_detours(site, tmp_path):
    path = site("")
    (tmp_path / "x" / "y").mkdir(parents=True)
    assert load_site(tmp_path / "x" / ".." / "site.yaml").path == path
    (tmp_path / "link").symlink_to("x/y")
    (tmp_path / "x" / "site.yaml").write_text("realm: other")
    assert load_site(tmp_path / "link" / ".." / "site.yaml").realm == "other"


def test_router_elsewhere_is_not_started_here(site):
    loaded = load_site(site("router: {url: 'wss://lab:8080/ws', ca: lab.pem}"))
    assert not loaded.router.runs_here
    assert not loaded.hub
    access = loaded.access()
    assert access.url == "wss://lab:8080/ws"
    assert access.ca == loaded.folder / "lab.pem"


def test_local_programs_use_the_unix_socket_also_below_a_long_path(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    (folder / "site.yaml").write_text("")
    loaded = load_site(folder)
    assert len(os.fsencode(loaded.socket_path)) <= 107
    assert loaded.socket_path == load_site(folder).socket_path


def test_accounts_come_from_the_secrets_file(site):
    loaded = load_site(site(""))
    assert (loaded.access("server").user, loaded.access("server").secret) == ("s", "one")
    assert (loaded.access().user, loaded.access().secret) == ("c", "two")
    assert "two" not in repr(loaded.access())
    assert "two" not in repr(loaded.secrets)


def test_environment_overrides_the_accounts(site, monkeypatch):
    path = site("")
    monkeypatch.setenv("SISOCK_CONSUMER_SECRET", "three")
    assert load_site(path).access().secret == "three"
    monkeypatch.setenv("WAMP_USER", "me")
    monkeypatch.setenv("WAMP_SECRET", "mine")
    monkeypatch.setenv("WAMP_URI", "ws://elsewhere:1/ws")
    access = load_site(path).access("server")
    assert (access.user, access.secret, access.url) == ("me", "mine", "ws://elsewhere:1/ws")


def test_secrets_may_come_from_the_environment_alone(tmp_path, monkeypatch):
    with pytest.raises(SiteError, match="run `sisock init` to make random secrets"):
        load_secrets(tmp_path / "secrets.yaml")
    monkeypatch.setenv("SISOCK_SERVER_SECRET", "a")
    monkeypatch.setenv("SISOCK_CONSUMER_SECRET", "b")
    secrets = load_secrets(tmp_path / "secrets.yaml")
    assert (secrets.server[0].user, secrets.consumer[0].user) == ("server", "consumer")


SEVERAL = """\
server: {user: s, secret: one}
consumer: {user: c, secret: two}
operator:
  alice: {secret: three}
  bob: {secret: four}
gateway: {secret: five}
"""


def test_role_has_several_named_accounts_of_which_the_first_is_used(site, monkeypatch):
    path = site("", SEVERAL)
    loaded = load_site(path)
    assert (loaded.access("operator").user, loaded.access("operator").secret) == ("alice", "three")
    assert (loaded.access("operator", "bob").user, loaded.access("operator", "bob").secret) == ("bob", "four")
    assert (loaded.access("gateway").user, loaded.access("gateway").secret) == ("gateway", "five")
    assert loaded.access(user="bob").secret == "four"
    for nobody in ("carol", "gateway"):
        with pytest.raises(SiteError, match=f"has no account '{nobody}'; it has: s, c, alice, bob$"):
            loaded.access("operator", nobody)
    monkeypatch.setenv("SISOCK_OPERATOR_SECRET", "six")
    monkeypatch.setenv("SISOCK_GATEWAY_SECRET", "seven")
    monkeypatch.setenv("WAMP_USER", "me")
    monkeypatch.setenv("WAMP_SECRET", "mine")
    loaded = load_site(path)
    accounts = {role: [each.user for each in own] for role, own in loaded.secrets.accounts.items()}
    assert accounts == {"server": ["s"], "consumer": ["c"], "operator": ["alice", "bob"], "gateway": ["gateway"]}
    assert loaded.own_access("operator").secret == "six"
    assert loaded.own_access("gateway").secret == "seven"
    assert loaded.access("operator", "bob").secret == "four"  # who is named is not overridden
    monkeypatch.setenv("SISOCK_OPERATOR_USER", "carol")
    assert [each.user for each in load_site(path).secrets.operator] == ["carol", "bob"]


def test_secrets_that_others_can_read_are_refused(site):
    path = site("")
    secrets = path.with_name("secrets.yaml")
    secrets.chmod(0o640)
    with pytest.raises(SiteError, match="can be read by others; run: chmod 600"):
        load_site(path).access()
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("secrets", "problem"),
    [
        ("server: {user: s}\nconsumer: {user: c, secret: x}", "1: server.secret: is missing"),
        ("server: {user: s, secret: ''}\nconsumer: {user: c, secret: x}", "server.secret"),
        ("server: {user: s, secret: x}", "consumer"),
        ("7", "give the accounts"),
        ("server: 7\nconsumer: {user: c, secret: x}", "1: server: give user and secret, or several accounts"),
        (SEVERAL.replace("bob: {secret: four}", "bob: four"), "5: operator.bob: "),
        (SEVERAL.replace("bob: {secret:", "bob: {secrte:"), "5: operator.bob.secret: is missing"),
        (SEVERAL.replace("bob:", "c:"), "5: operator.c: two roles have the user 'c', consumer and operator"),
        (SEVERAL.replace("bob:", "gateway:"), "5: operator.gateway: 'gateway' is the account of the gateway itself"),
        (SEVERAL.replace("user: c", "user: gateway"), "2: consumer.user: 'gateway' is the account of the gateway"),
        (
            SEVERAL.replace("five}", "five, users: {gateway: {password: nobodyknows}}}"),
            "6: gateway.users.gateway: this is the account of the gateway itself",
        ),
        ("server: [", "is not YAML"),
    ],
)
def test_secrets_that_are_wrong_are_told_without_being_shown(site, secrets, problem):
    path = site("", secrets)
    with pytest.raises(SiteError) as caught:
        load_site(path).access()
    assert problem in str(caught.value)


def test_environment_says_where_the_router_is(monkeypatch):
    assert access_from_environment().url == "ws://127.0.0.1:8080/ws"
    monkeypatch.setenv("WAMP_URI", "rs://lab:8081")
    monkeypatch.setenv("REALM", "lab")
    monkeypatch.setenv("BASE_URI", "org.lab")
    access = access_from_environment()
    assert (access.url, access.realm, access.base_uri, access.user) == ("rs://lab:8081", "lab", "org.lab", "server")


def test_node_types_that_come_with_sisock_are_found():
    assert {"host", "table"} <= node_types().keys()


def test_two_nodes_may_not_share_a_history(tmp_path):
    (tmp_path / "site.yaml").write_text(
        "nodes:\n  a: {type: host, history: {path: h}}\n  b:\n    type: host\n    history:\n      path: ./x/../h\n"
    )
    with pytest.raises(SiteError, match=r"site.yaml:6: nodes.b.history.path: .* is the history of node a as well"):
        load_site(tmp_path)


@pytest.mark.parametrize(
    ("text", "size"), [(1000000, 10**6), ("64MB", 64 * 10**6), ("1.5 GiB", 3 * 2**29), ("2kib", 2048)]
)
def test_size_is_bytes_or_text(text, size):
    assert HistorySettings(max_size=text).max_size == size


def test_text_that_is_no_size_is_told():
    with pytest.raises(ValueError, match="'much' is not a size; give bytes"):
        HistorySettings(max_size="much")


@pytest.mark.parametrize(
    ("settings", "watchdog_s"),
    [
        ({}, 0.0),
        ({"history": {"path": "h"}}, 30.0),
        ({"watchdog": 0, "history": {"path": "h"}}, 0.0),
        ({"watchdog": 45}, 45.0),
    ],
)
def test_watchdog_is_off_by_default_without_a_history_on_disk(settings, watchdog_s):
    assert NodeSettings(type="host", **settings).watchdog_s == watchdog_s


def test_site_that_is_a_pipe_a_device_or_huge_is_refused_and_not_read(tmp_path):
    huge, pipe = tmp_path / "huge.yaml", tmp_path / "pipe.yaml"
    with huge.open("wb") as file:
        file.truncate(3_000_000_000)
    os.mkfifo(pipe)
    refused = {huge: "has 3,000,000,000 bytes; at most", pipe: "is not a file", Path("/dev/zero"): "is not a file"}
    for path, said in refused.items():
        with pytest.raises(SiteError, match=said):
            load_site(path)
