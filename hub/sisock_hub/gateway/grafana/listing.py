"""Lists of names, for variables and for completion of names of fields."""

import re

from sisock.errors import BadRequest
from sisock.patterns import expanded, is_plain
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana.catalogue import KEYS, Fields, Target, labels
from sisock_hub.gateway.questions import SEPARATOR

MOST = 10_000
"""Most names of one answer."""


async def names(directory: FieldDirectory, text: str) -> list[str]:
    """Return the names that a text selects.

    Parameters
    ----------
    directory : FieldDirectory
    text : str
        ``nodes``, ``nodes pattern``: names of nodes. ``fields pattern``: names of the fields of those nodes. A
        pattern of ``node::field``: targets. An empty text or ``*``: all targets. Another text: targets whose
        names contain it.
    """
    text = text.strip()
    what, _, pattern = text.partition(" ")
    if what in ("nodes", "fields") and SEPARATOR not in text:
        patterns = _patterns(pattern.strip() or "*")
        fields, _ = await directory.fields(lambda node: _matches(patterns, node))
        found = fields if what == "nodes" else dict.fromkeys(name for infos in fields.values() for name in infos)
        return list(found)[:MOST]
    fields, _ = await directory.fields()
    return [str(target) for target in matching(fields, text)][:MOST]


def matching(fields: Fields, text: str) -> list[Target]:
    """Return the targets that match a pattern or contain a text."""
    everything = [Target(node, name) for node, infos in fields.items() for name in infos]
    if text in ("", "*"):
        return everything
    if is_plain(text):
        part = text.casefold()
        return [target for target in everything if part in str(target).casefold()]
    patterns = _patterns(text)
    return [target for target in everything if str(target) == text or _matches(patterns, str(target))]


async def values(directory: FieldDirectory, key: str) -> list[str]:
    """Return the values by which fields can be filtered.

    Raises
    ------
    BadRequest
        If there is no such key.
    """
    if key not in KEYS:
        raise BadRequest(f"fields cannot be filtered by {key[:100]!r}, but by {', '.join(KEYS)}")
    fields, _ = await directory.fields()
    known = [(Target(node, name), info) for node, infos in fields.items() for name, info in infos.items()]
    found = {each[key] for target, info in known for each in labels(target, info)}
    return sorted(found - {""})[:MOST]


def _patterns(text: str) -> list[re.Pattern[str]]:
    return [shell.compiled() for shell in expanded(text)]


def _matches(patterns: list[re.Pattern[str]], name: str) -> bool:
    return any(pattern.match(name) for pattern in patterns)
