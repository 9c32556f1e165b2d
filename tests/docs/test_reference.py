"""The docs tell the truth: what they show runs, and nothing is missing from the reference."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pydantic import BaseModel

from sisock.alarm.notify import EmailSettings, NotificationSettings
from sisock.alarm.settings import AlarmSettings
from sisock.errors import leaves
from sisock.nodetype import load_node_type, load_sink_type, node_types
from sisock.settings import AllowanceSettings, HistorySettings, TableSettings, WorkSettings
from sisock.site import GatewaySecrets, GatewaySettings, RouterSettings, SiteFile, TlsSettings

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCS += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "nodes").glob("sisock_nodes/*/README.md"))
DOCS += [ROOT / "examples" / "README.md", ROOT / "crossbar-config" / "README.md"]


def read(path):
    return (ROOT / path).read_text()


def snippets(path, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", read(path), re.S)


@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.name)
def test_every_error_is_in_the_contract(kind):
    row = re.search(rf"^\| `{kind.name}` \|(.*)\|(.*)\|$", read("docs/wire-contract.md"), re.M)
    assert row, f"{kind.name} is not in docs/wire-contract.md"
    assert (row[2].strip() == "yes") is kind.retriable


def named(model: type[BaseModel], without=()):
    return [field.alias or name for name, field in model.model_fields.items() if name not in without]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/site-file.md", named(SiteFile)),
        ("docs/site-file.md", named(RouterSettings)),
        ("docs/site-file.md", named(TlsSettings)),
        ("docs/site-file.md", named(GatewaySettings)),
        ("docs/site-file.md", named(GatewaySecrets)),
        ("docs/site-file.md", named(AlarmSettings)),
        ("docs/site-file.md", named(NotificationSettings)),
        ("docs/site-file.md", named(EmailSettings)),
        ("docs/site-file.md", [f"history.{name}" for name in named(HistorySettings)]),
        ("docs/site-file.md", [f"allowance.{name}" for name in named(AllowanceSettings)]),
        ("docs/site-file.md", [f"work.{name}" for name in named(WorkSettings)]),
        ("docs/site-file.md", [f"tables.{name}" for name in named(TableSettings)]),
    ],
)
def test_every_setting_of_a_site_is_documented(page, names):
    for name in names:
        assert f"`{name}`" in read(page), f"{name} is not in {page}"


@pytest.mark.parametrize("point", entry_points(group="sisock.sinks"), ids=lambda point: point.name)
def test_every_setting_of_a_sink_is_documented(point):
    for name in named(load_sink_type(point).settings):
        assert f"| `{name}` |" in read("docs/sinks.md"), f"{name} is not in docs/sinks.md"


KINDS = sorted(kind for kind, point in node_types().items() if load_node_type(point).replaced_by is None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_a_node_type_is_documented(kind):
    page = f"nodes/sisock_nodes/{kind.replace('-', '_')}/README.md"
    for name in named(
        load_node_type(node_types()[kind]).settings,
        (
            *("type", "description", "history", "allowance", "work", "tables"),
            *("publish_to", "expect_every", "alarms", "watchdog"),
        ),
    ):
        assert re.search(rf"`{name}[`.]", read(page)), f"{name} is not in {page}"


def commands():
    import typer

    from sisock.cli.app import build

    group = typer.main.get_command(build())
    for name, command in group.commands.items():
        for sub in getattr(command, "commands", {None: command}):
            yield f"sisock {name} {sub}" if sub else f"sisock {name}"


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_is_documented(command):
    assert f"`{command}" in read("docs/commands.md")


def test_every_environment_variable_is_documented():
    code = "".join(path.read_text() for path in ROOT.glob("sisock/**/*.py"))
    used = set(re.findall(r'environ(?:\.get)?[\[(]"([A-Z_]+)"', code)) - {
        "XDG_RUNTIME_DIR",
        "NO_COLOR",
        "SISOCK_TEST_REQUIRE",
    }
    assert used
    for name in used:
        assert f"`{name}`" in read("docs/commands.md"), name


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


def test_the_node_in_the_readme_is_the_example():
    example = (ROOT / "examples" / "dice.py").read_text()
    assert snippets("README.md")[0].strip() == example.partition('"""\n\n')[2].strip()


def test_site_files_in_the_docs_are_accepted(tmp_path):
    from sisock.site import load_site

    for page in ("docs/site-file.md", "docs/first-steps.md"):
        for snippet in snippets(page, "yaml"):
            if "secret:" not in snippet and "password:" not in snippet:
                (tmp_path / "site.yaml").write_text(snippet)
                assert load_site(tmp_path).nodes


def test_site_files_of_the_node_types_are_accepted(tmp_path):
    from sisock.site import load_site

    for kind in KINDS:
        for snippet in snippets(f"nodes/sisock_nodes/{kind.replace('-', '_')}/README.md", "yaml"):
            (tmp_path / "site.yaml").write_text(snippet)
            assert load_site(tmp_path).nodes


exec("\n\n".join(snippets("docs/testing.md")), globals())  # the tests that the page shows are some of ours


def test_every_example_is_in_the_list():
    listed = read("examples/README.md")
    for path in (ROOT / "examples").iterdir():
        if path.name != "README.md" and not path.name.startswith("__"):
            assert f"`{path.name}" in listed, path.name


def test_core_says_in_one_line_what_the_command_line_needs():
    script = "import sys; sys.modules['typer'] = None; sys.argv = ['sisock']; from sisock.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "pip install 'sisock[cli]'" in done.stderr
