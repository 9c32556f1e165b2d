"""Texts from outside on the terminal and in logs."""

import io
import logging

import pytest
from rich.console import Console

from sisock.cli import show
from sisock.cli.terminal import echo
from sisock.consumer import FieldInfo
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


def test_tables_headings_and_lines_of_commands_have_no_control_characters(capsys):
    stream = io.StringIO()
    show.table(Console(file=stream), ("field",), [(HOSTILE,)])
    assert stream.getvalue() == f"field\n{SHOWN}\n"
    info = FieldInfo(HOSTILE, "number", "\x1b[31m", None, "tl", None)
    assert show.heading(HOSTILE, info) == rf"{SHOWN} [\x1b[31m]"
    echo(f"node {HOSTILE}")
    assert capsys.readouterr().out == f"node {SHOWN}\n"
