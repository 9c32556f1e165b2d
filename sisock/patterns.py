"""Several names at once, as people and dashboards write them: shell patterns and alternatives."""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate

from sisock.errors import BadRequest, NoSuchField

MOST_ALTERNATIVES = 500
"""Most patterns that one text may stand for."""
TYPO = 0.6
"""How much alike two names are of which one may be a slip in the other, for `did_you_mean`."""
_LONGEST, _LONGEST_NAME, _DEEPEST = 20_000, 1_000, 5
# The opening of a group of alternatives: its closing, and the separator. Grafana writes several values of a
# variable as {a,b} (glob) or (a|b) (regex).
_GROUPS = {"{": ("}", ","), "(": (")", "|")}
_WILD = "*?["
_SPECIAL = frozenset(_WILD + "\\" + "".join(_GROUPS))


@dataclass(frozen=True, slots=True)
class Shell:
    """A shell pattern: ``*`` any text, ``?`` any character, ``[abc]`` one of these.

    Attributes
    ----------
    pattern : str
        As `fnmatch` reads it.
    text : str
        What it means where nothing in it is wild.
    wild : bool
        Whether it can mean more than one text.
    """

    pattern: str = ""
    text: str = ""
    wild: bool = False

    def __add__(self, other: "Shell") -> "Shell":
        return Shell(self.pattern + other.pattern, self.text + other.text, self.wild or other.wild)

    def partition(self, separator: str) -> tuple["Shell", bool, "Shell"]:
        """Return the part before an unescaped separator, whether there is one, and the part after it."""
        before, found, after = self.pattern.partition(separator)
        text, _, rest = self.text.partition(separator)
        return _shell(before, text), bool(found), _shell(after, rest)

    def compiled(self) -> re.Pattern[str]:
        """Return the regular expression of the pattern."""
        return re.compile(translate(self.pattern))


def _shell(pattern: str, text: str) -> Shell:
    return Shell(pattern, text, wild=pattern != _literal(text).pattern)


def _literal(text: str) -> Shell:
    return Shell("".join(f"[{c}]" if c in _WILD else c for c in text), text)


def is_plain(text: str) -> bool:
    """Whether a text can only mean itself."""
    return _SPECIAL.isdisjoint(text)


def expanded(text: str) -> list[Shell]:
    """Return the shell patterns of a text: one for each of its alternatives, in order.

    ``{a,b}`` and ``(a|b)`` are alternatives, a backslash takes the next character as it is; brackets that are not
    closed, or have no alternatives in them, are what they are.

    Raises
    ------
    BadRequest
        If the text is too long, or stands for too many.
    """
    if len(text) > _LONGEST:
        raise BadRequest(f"a target has {len(text):,} characters; at most {_LONGEST:,} are read")
    found = _sequence(text, 0, len(text), _groups(text))
    if longest := next((each for each in found if len(each.text) > _LONGEST_NAME), None):
        raise BadRequest(f"{_short(longest.text)} has over {_LONGEST_NAME:,} characters; no field is called so")
    return found


def matching(text: str, names: Collection[str]) -> list[str]:
    """Return the names that a text means: the name itself if it exists, else those that it matches as a pattern.

    Raises
    ------
    BadRequest
        If the text is too long, or stands for too many alternatives.
    """
    if text in names:
        return [text]
    if is_plain(text):
        return []
    found: dict[str, None] = {}
    for shell in expanded(text):
        matches = shell.compiled().match
        found.update(dict.fromkeys(name for name in names if matches(name)))
    return list(found)


def choose_fields(node: str, patterns: Iterable[str], names: Collection[str]) -> list[str]:
    """Return the names of the fields that some patterns mean, each once.

    Raises
    ------
    NoSuchField
        If a pattern means none, with the names that are most like it.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = matching(pattern, names)
        if not found:
            hint = did_you_mean(pattern, names) or f"`sisock fields {node}` lists its fields"
            raise NoSuchField(f"node {node!r} has no field {pattern!r}; {hint}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def did_you_mean(name: str, names: Iterable[str], likeness: float = 0.4) -> str:
    """Return a question for the names that are most like one that does not exist; empty if none is like it."""
    near = difflib.get_close_matches(name, list(names), 3, likeness)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _groups(text: str) -> dict[int, int]:
    """Return where each group of alternatives opens and closes."""
    found: dict[int, int] = {}
    opened: list[tuple[int, bool]] = []
    i = 0
    while i < len(text):
        c = text[i]
        if c == "\\":
            i += 1
        elif c in _GROUPS:
            opened.append((i, False))
        elif opened:
            start, has_some = opened[-1]
            closer, separator = _GROUPS[text[start]]
            if c == separator:
                opened[-1] = start, True
            elif c == closer:
                opened.pop()
                if has_some:
                    found[start] = i
        i += 1
    depth, ends = 0, set(found.values())
    for i in sorted((*found, *ends)):
        depth += -1 if i in ends else 1
        if depth > _DEEPEST:
            raise BadRequest(f"alternatives are nested more than {_DEEPEST} deep in {_short(text)}")
    return found


def _sequence(text: str, i: int, end: int, groups: dict[int, int]) -> list[Shell]:
    found, run = [Shell()], list[Shell]()
    while i < end:
        c = text[i]
        if i in groups:
            found = _joined(text, _followed(found, run), _alternatives(text, i, groups))
            run = []
            i = groups[i]
        elif c == "\\" and i + 1 < end:
            i += 1
            run.append(_literal(text[i]))
        else:
            run.append(Shell(c, c, wild=c in _WILD))
        i += 1
    return _followed(found, run)


def _followed(found: Sequence[Shell], run: Sequence[Shell]) -> list[Shell]:
    """Return the patterns found, each followed by a run of characters."""
    pattern, text = "".join(each.pattern for each in run), "".join(each.text for each in run)
    piece = Shell(pattern, text, any(each.wild for each in run))
    return [each + piece for each in found]


def _alternatives(text: str, start: int, groups: dict[int, int]) -> list[Shell]:
    separator, end = _GROUPS[text[start]][1], groups[start]
    found: list[Shell] = []
    begin = i = start + 1
    while i <= end:
        if i == end or text[i] == separator:
            found += _sequence(text, begin, i, groups)
            begin = i + 1
        elif text[i] == "\\":
            i += 1
        elif i in groups:
            i = groups[i]
        i += 1
    return found


def _joined(text: str, before: Sequence[Shell], after: Sequence[Shell]) -> list[Shell]:
    if len(before) * len(after) > MOST_ALTERNATIVES:
        raise BadRequest(f"{_short(text)} stands for more than {MOST_ALTERNATIVES} targets; choose fewer")
    return [one + other for one in before for other in after]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
