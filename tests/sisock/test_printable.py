"""Texts from outside on the terminal and in logs."""

import io
import logging

import numpy as np
import pytest
from rich.console import Console

from sisock.cli import show
from sisock.cli.terminal import echo
from sisock.consumer import Data, FieldInfo
from sisock.fields import Field, Samples
from sisock.printable import _Formatter, printable

HOSTILE = "a\x1b[2Jb\x07\x7f\x9b1m\u202ec\u2066\nd"
SHOWN = r"a\x1b[2Jb\x07\x7f\x9b1m\u202ec\u2066\nd"


def test_control_characters_are_escaped():
    assert printable(HOSTILE) == SHOWN


@pytest.mark.parametrize("text", ["", "°C", "µm/s²", "Straße", "温度", "a b", r"C:\\x", "10\u00a0%"])
def test_other_texts_are_shown_as_they_are(text):
    assert printable(text) == text


def test_log_lines_have_no_control_characters():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))
    log = logging.getLogger("tests.printable")
    log.addHandler(handler)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("node %s failed", HOSTILE)
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"ERROR: node {SHOWN} failed"
    assert all(line.isprintable() for line in lines)


def test_tables_and_lines_of_commands_have_no_control_characters(capsys):
    stream = io.StringIO()
    show.table(Console(file=stream), ("field",), [(HOSTILE,)])
    assert stream.getvalue() == f"field\n{SHOWN}\n"
    echo(f"node {HOSTILE}")
    assert capsys.readouterr().out == f"node {SHOWN}\n"


def hostile_data():
    """Return data whose every name, unit and text is hostile, and that have epochs."""
    bad = f"{HOSTILE}[/][bold]"
    columns = {bad: np.array([1.0, 2.0]), "text": np.array([bad, bad], object), f"no{bad}": np.array([np.nan, np.nan])}
    epochs = {bad: [(1.0, Field(bad, "number", bad)), (2.0, Field(bad, "number", f"{bad}2"))]}
    samples = Samples(np.array([1.0, 2.0]), columns, None, epochs=epochs)
    infos = {
        name: FieldInfo(name, kind, bad, bad, bad, None)
        for name, kind in zip(columns, ("number", "string", "number"), strict=True)
    }
    return Data("node", {bad: samples}, [], infos)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "show_data",
    [
        lambda console, data: show.as_table(console, data, most=None),
        lambda console, data: show.as_csv(console.file, data),
        show.as_plot,
    ],
    ids=["table", "csv", "plot"],
)
def test_data_are_shown_without_control_characters_and_markup(monkeypatch, show_data, terminal):
    monkeypatch.setenv("NO_COLOR", "1")  # colours are control characters, too
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, color_system=None, width=2000)
    show_data(console, hostile_data())
    assert f"{SHOWN}[/][bold]" in stream.getvalue()
    assert all(line.isprintable() for line in stream.getvalue().replace("\t", " ").split("\n"))
