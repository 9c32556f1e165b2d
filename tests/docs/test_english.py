"""What we write reads as the field writes: phrases that a newcomer has to decode stay out.

`PHRASES` are matched against docstrings and other texts of several words in Python, comments, the console's page, and Markdown. Code blocks of
Markdown are left out.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("sisock", "hub/sisock_hub", "nodes/sisock_nodes")
PAGE = "hub/sisock_hub/gateway/page"
NOUN = "the noun: the client, the caller, the samples"

# A pattern, and what to write instead. A blank in a pattern is any white space.
PHRASES = [
    (r"(?<!there )\b(is|are|was|were) no (?!longer|more|less|later|other than|one\b)\w+", "is not a …"),
    (r"\b(told|tells|telling|tell)\b(?! (\w+ )?(apart|from)\b)", "report, return, log, list, notify"),
    (r"\b(says|said|saying)\b", "report, return, state, describe"),
    (r"\bhea(r|rs|rd|ring)\b", "receive, notice"),
    (r"\btr(y|ies|ied|ying) on\b", "retry"),
    (r"\bsaid once\b", "further occurrences are suppressed"),
    (r"\bodd\b(?! (number|length|count|multiple|integer))", "unexpected, malformed"),
    (r"\bwhat(ever)? (is|was|goes|went|could be|can be) wrong\b|\b(go|goes|went|gone) wrong\b", "the error; fails"),
    (r"\b(go|goes|went|going) on\b", "continue"),
    (r"\b(is|are|was|were) (gone|away)\b", "has left, is unreachable, does not exist"),
    (r"\b(is|are|was|were) there([.,;:)]|\Z| (already|before|by|when|until|at the|in|on)\b)", "is available, exists"),
    (r"\bput(s|ting)? aside\b", "quarantine"),
    (r"\bthin(s|ned|ning)\b|\bthin (out|data|samples|them)\b|\bdecimat\w+", "downsample"),
    (r"\bthe least and the greatest\b", "minimum and maximum"),
    (r"\b(to|for|from|by|than) who(ever)? (is|was|are|has|have|does|\w+s|\w+ed)\b", NOUN),
    (r"\bwho(ever)? (asks|takes|reads|subscribes|follows|measures|records|calls)\b", NOUN),
    (r"\A(Whose|Whom|Who|What|Why|(Before|By|In|From|Of|To) which|Since when)\b", NOUN),
    (r"\A(Return|Yield|Provide|Give)s? (what|who|whatever|whoever)\b", NOUN),
    (r"\bwhat is (final|measured|stored|there|sent|kept|lost)\b", "finalized samples, the watermark; the data"),
    (r"\bin (its|their) (own )?order\b", "leave out, or: in order of …"),
    (r"\bas such\b|\bonce for all\b|\bof itself\b|\bgives? it all to\b|\band its like\b", "leave out"),
    (r"\ba blink\b", "the figure"),
    (r"\bthe explicit word\b|\bone word more\b|\bthe word that\b", "must be set to allow; asks for confirmation"),
    (r"\banew\b", "again"),
    (r"\byet to come\b", "in the future"),
    (r"\bby way of\b|\bfor want of\b|\bin the place of\b", "through; without; instead of"),
]
PATTERNS = [(re.compile(text.replace(" ", r"\s"), re.I), instead) for text, instead in PHRASES]
COMMENT = re.compile(r"(?:^\s*|\s\s)(?:#:?|//|/\*|\*) (.*)")
FENCE = re.compile(r"^( *)```.*?^\1```", re.M | re.S)


def files() -> list[Path]:
    """Return the files that contain English: Python, Markdown, and the console's page."""
    found = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    found += [path for path in (ROOT / "docs").rglob("*.md") if "upstream" not in path.parts]
    for folder in ("nodes", "hub", "examples", "crossbar-config"):
        found += (ROOT / folder).rglob("README.md")
    for folder in CODE:
        found += (ROOT / folder).rglob("*.py")
    found += [path for path in (ROOT / PAGE).iterdir() if path.suffix in (".js", ".html", ".css")]
    return sorted(found)


def code_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments, and strings that contain blanks, with the number of their first line."""
    start, lines = 0, []
    for number, line in enumerate(source.splitlines(), 1):
        found = COMMENT.search(line) if "#" in line else None
        if lines and not (found and line.lstrip().startswith("#")):
            yield start, "\n".join(lines)
            lines = []
        if found:
            start = number if not lines else start
            lines.append(found[1])
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and " " in node.value:
                for offset, paragraph in paragraphs(node.value):
                    yield node.lineno + offset, paragraph
        else:
            nodes.extend(ast.iter_child_nodes(node))


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yield paragraphs with the number of lines before each; list items and table rows are paragraphs of their own."""
    start, lines = 0, []
    for number, line in enumerate(text.split("\n")):
        stripped = line.strip()
        if lines and (not stripped or re.match(r"[-*|#>]|\d+\. ", stripped)):
            yield start, "\n".join(lines)
            lines = []
        if stripped:
            if not lines:
                start = number
            lines.append(stripped)
    if lines:
        yield start, "\n".join(lines)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text()
    if path.suffix == ".py":
        yield from code_texts(source)
    elif path.suffix == ".md":
        prose = FENCE.sub(lambda found: "\n" * found[0].count("\n"), source)
        for offset, paragraph in paragraphs(prose):
            yield offset + 1, paragraph
    else:
        for number, line in enumerate(source.splitlines(), 1):
            if " " in line.strip():
                yield number, line.strip()


def search(text: str) -> Iterator[tuple[re.Match[str], str]]:
    for pattern, instead in PATTERNS:
        for found in pattern.finditer(text):
            yield found, instead


def phrases(path: Path) -> Iterator[str]:
    """Yield each phrase of `path` with its line and its replacement."""
    for number, text in texts(path):
        for found, instead in search(text):
            line = number + text.count("\n", 0, found.start())
            yield f"{path.relative_to(ROOT)}:{line}: {' '.join(found[0].split())!r}: {instead}"


def test_phrases_of_a_private_dialect_stay_out():
    found = [line for path in files() for line in phrases(path)]
    assert not found, "\n".join(["write instead:", *found])


@pytest.mark.parametrize(
    "text",
    [
        "'a b' is no name of a node",
        "a batch is refused (said once)",
        "is told of each batch",
        "samples are thinned out",
        "Return what is final.",
        "Whose samples these are.",
        "gives it all to who does not speak WAMP",
        "the node goes on",
        "the node is there.",
        "it is no whole\nnumber of seconds",
        "values are odd",
        "damaged files are put aside",
    ],
)
def test_a_phrase_of_the_dialect_is_found(text):
    assert list(search(text))


@pytest.mark.parametrize(
    "text",
    [
        "there is no such node",
        "is no longer registered",
        "an odd number of samples",
        "a thin layer over the wire",
        "the password is wrong",
        "there are two nodes",
        "the folder that is therefore used",
        "Return the newest sample of each field.",
        "people who measure",
    ],
)
def test_good_english_is_not_found(text):
    assert not list(search(text))
