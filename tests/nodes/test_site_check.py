"""What `sisock check` finds in the settings of nodes only when it looks at all of them, or asks their packages."""

import pytest

from sisock.errors import SiteError
from sisock.site import check_site, load_site

RIG = "{type: udp, host: 127.0.0.1, port: [5000, %d]}"
KAFKA = "{type: kafka, servers: nowhere:1, topics: [t], config: {%s}}"


def site(folder, **nodes):
    secrets = folder / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text("".join(f"{role}: {{user: {role}, secret: x}}\n" for role in ("server", "consumer")))
    path = folder / "site.yaml"
    path.write_text("nodes:\n" + "".join(f"  {name}: {settings}\n" for name, settings in nodes.items()))
    return path


def test_two_nodes_on_one_port_are_told(tmp_path):
    load_site(site(tmp_path, one=RIG % 5001, two="{type: udp, host: 127.0.0.2, port: 5000}"))
    with pytest.raises(SiteError) as raised:
        load_site(site(tmp_path, one=RIG % 5001, two=RIG % 5002))
    said = "UDP port 5000 of 127.0.0.1 is taken by node one; give each one of its own"
    assert raised.value.problems == [f"{tmp_path}/site.yaml:3: nodes.two: {said}"]


def test_settings_that_librdkafka_does_not_take_are_told(tmp_path):
    pytest.importorskip("confluent_kafka")
    check_site(site(tmp_path, one=KAFKA % "client.id: me"))
    sink = "{type: host, publish_to: {kafka: {servers: nowhere:1, config: {acks: most}}}}"
    with pytest.raises(SiteError) as raised:
        check_site(site(tmp_path, one=KAFKA % "security.protokol: ssl", two=sink))
    first, second = raised.value.problems
    assert first.startswith(f"{tmp_path}/site.yaml:2: nodes.one: librdkafka does not take the settings: ")
    assert first.endswith('"security.protokol"')
    assert second.startswith(f"{tmp_path}/site.yaml:3: nodes.two.publish_to.kafka: librdkafka does not take")
