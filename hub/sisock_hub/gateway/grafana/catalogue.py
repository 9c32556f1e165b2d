"""The fields that a target selects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sisock.consumer import FieldInfo
from sisock.errors import BadRequest, NodeFailed
from sisock.patterns import Shell, expanded, is_plain
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.promql.matching import Matcher
from sisock_hub.gateway.questions import MOST_TARGETS, SEPARATOR

KEYS = ("node", "field", "units", "type")
"""Keys by which fields can be filtered."""

Fields = Mapping[str, Mapping[str, FieldInfo]]
"""Fields by name, by node."""


class Target(NamedTuple):
    """A field of a node."""

    node: str
    field: str

    def __str__(self) -> str:
        return f"{self.node}{SEPARATOR}{self.field}"


@dataclass(slots=True)
class Meant:
    """The fields that a target selects.

    Attributes
    ----------
    text : str
        The target.
    targets : list of Target
        The named field, even if it does not exist, or the existing fields that match a pattern.
    notices : list of str
        Warnings about nodes that did not list their fields.
    filtered : bool
        Whether filters have removed some.
    """

    text: str
    targets: list[Target] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    filtered: bool = False


def labels(target: Target, info: FieldInfo) -> list[Mapping[str, str]]:
    """Return the values of `KEYS` for a field, for each units and type that it had."""
    return [
        {"node": target.node, "field": target.field, "units": then.units or "", "type": then.type}
        for then in info.columns.values()
    ]


async def resolve(directory: FieldDirectory, texts: Sequence[str], filters: Sequence[Matcher] = ()) -> list[Meant]:
    """Return the fields that each text selects: ``node::field``, or a pattern of it.

    Parameters
    ----------
    directory : FieldDirectory
    texts : sequence of str
    filters : sequence of Matcher
        Conditions on the fields that a pattern selects, by `KEYS`; a named field is not filtered.

    Raises
    ------
    BadRequest
        If a text is not a target, or they select too many fields.
    NodeFailed
        If nothing is selected, and some nodes did not list their fields.
    """
    wild = {text: _patterns(text) for text in texts if not is_plain(text)}
    fields, notices = await _fields_of(directory, wild) if wild else ({}, [])
    found = []
    for text in texts:
        if text not in wild:
            found.append(Meant(text, [named(text)]))
        elif (exact := _split(text)) and exact.field in fields.get(exact.node, {}):
            found.append(Meant(text, [exact]))
        else:
            found.append(_matching(text, wild[text], fields, filters, notices))
    number = sum(len(each.targets) for each in found)
    if not number and notices and not any(each.filtered for each in found):
        raise NodeFailed("; ".join(notices))
    if number > MOST_TARGETS:
        raise BadRequest(f"{number} fields are selected; select at most {MOST_TARGETS}")
    return found


async def _fields_of(
    directory: FieldDirectory, wild: Mapping[str, Sequence[tuple[Shell, Shell]]]
) -> tuple[Fields, list[str]]:
    """Return the fields of the nodes that a pattern may select, and warnings about those that did not answer."""
    nodes = [node.compiled() for patterns in wild.values() for node, _ in patterns]
    exact = {target.node for text in wild if (target := _split(text))}
    return await directory.fields(lambda name: name in exact or any(node.match(name) for node in nodes))


def named(text: str) -> Target:
    """Return the field that a text names.

    Raises
    ------
    BadRequest
        If it is not written as ``node::field``.
    """
    target = _split(text)
    if target is None:
        raise BadRequest(f"target {text[:100]!r} is not written as node{SEPARATOR}field")
    return target


def _split(text: str) -> Target | None:
    node, _, name = text.partition(SEPARATOR)
    return Target(node, name) if node and name else None


def _patterns(text: str) -> list[tuple[Shell, Shell]]:
    """Return the patterns of nodes and of their fields."""
    found = []
    for shell in expanded("*::*" if text == "*" else text):
        node, separated, name = shell.partition(SEPARATOR)
        if not separated or not node.pattern or not name.pattern:
            raise BadRequest(f"target {text[:100]!r} is not written as node{SEPARATOR}field")
        found.append((node, name))
    return found


def _matching(
    text: str,
    patterns: Sequence[tuple[Shell, Shell]],
    fields: Fields,
    filters: Sequence[Matcher],
    notices: Sequence[str],
) -> Meant:
    (node, name), *others = patterns
    if not others and not node.wild and not name.wild:
        return Meant(text, [Target(node.text, name.text)])
    meant = Meant(text, notices=list(notices))
    targets = dict.fromkeys(target for pattern in patterns for target in _like(*pattern, fields))
    for target in targets:
        said = labels(target, fields[target.node][target.field])
        if any(all(each.matches(one) for each in filters) for one in said):
            meant.targets.append(target)
        else:
            meant.filtered = True
    return meant


def _like(node: Shell, name: Shell, fields: Fields) -> Iterator[Target]:
    """Yield the fields that match a pattern."""
    if not node.wild and not name.wild:
        if name.text in fields.get(node.text, {}):
            yield Target(node.text, name.text)
        return
    node_like, name_like = node.compiled(), name.compiled()
    for of, infos in fields.items():
        if node_like.match(of):
            yield from (Target(of, each) for each in infos if name_like.match(each))
