"""What targets may be written as."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadRequest
from sisock.patterns import expanded, is_plain


def texts(text):
    return [shell.text for shell in expanded(text)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("host::cpu", ["host::cpu"]),
        ("{a,b}::x", ["a::x", "b::x"]),
        ("(a|b)::x", ["a::x", "b::x"]),
        ("(host::cpu|rig::door)", ["host::cpu", "rig::door"]),
        ("{a,b}::{x,y}", ["a::x", "a::y", "b::x", "b::y"]),
        ("{a,b{1,2}}::x", ["a::x", "b1::x", "b2::x"]),
        (r"my\.host::cpu\.total", ["my.host::cpu.total"]),
        (r"(my\.host|a\|b)::x", ["my.host::x", "a|b::x"]),
        ("{one}::x", ["{one}::x"]),
        ("a::temp (C)", ["a::temp (C)"]),
        ("a::{open", ["a::{open"]),
        ("a::}b)", ["a::}b)"]),
        ("a::x\\", ["a::x\\"]),
        ("{,a}::x", ["::x", "a::x"]),
        ("", [""]),
    ],
)
def test_alternatives_are_written_out(text, meant):
    assert texts(text) == meant
    assert not any(shell.wild for shell in expanded(text))


@pytest.mark.parametrize(
    ("text", "name", "matches"),
    [
        ("host::cpu.*", "host::cpu.total", True),
        ("host::cpu.*", "host::cpuxtotal", False),
        ("*::temp?", "a::temp1", True),
        ("*::temp[12]", "a::temp3", False),
        (r"*::temp\*", "a::temp1", False),
        (r"*::temp\*", "a::temp*", True),
        (r"*::\[x\]", "a::[x]", True),
    ],
)
def test_shell_patterns_match_whole_names(text, name, matches):
    (shell,) = expanded(text)
    assert shell.wild
    assert bool(shell.compiled().match(name)) is matches


def test_too_many_alternatives_are_refused():
    many = "{" + ",".join(map(str, range(30))) + "}"
    with pytest.raises(BadRequest, match="more than 500"):
        expanded(many + many)
    with pytest.raises(BadRequest, match="characters"):
        expanded("x" * 30_000)


@pytest.mark.parametrize("text", ["(" * 20_000, "{a," * 6_000, "{a," * 400 + "}" * 400, "*a" * 5000, "\\" * 20_000])
def test_nasty_texts_cost_no_time(text):
    began = time.process_time()
    try:
        shells = expanded(text)
        shells[0].compiled().match("a" * 500)
    except BadRequest:
        pass
    assert time.process_time() - began < 2.0


@given(st.text(alphabet=r"ab:*?[]{},()|\ ", max_size=25))
def test_any_text_is_a_pattern_or_refused(text):
    try:
        shells = expanded(text)
    except BadRequest:
        return
    assert shells
    for shell in shells:
        shell.compiled().match("a::b")
        if not shell.wild:
            assert shell.compiled().match(shell.text)
    if is_plain(text):
        assert [shell.text for shell in shells] == [text]
