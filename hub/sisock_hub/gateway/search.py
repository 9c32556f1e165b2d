"""Search of nodes and fields by words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from sisock.consumer import FieldInfo
from sisock.errors import BadRequest
from sisock_hub.gateway.encoding import field_content, json_bytes
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.models import SearchAnswer
from sisock_hub.gateway.watch import Watch

# Most hits of a search.
_MOST_HITS = 1000


@dataclass(frozen=True, slots=True)
class Hit:
    """A hit: a node, or one of its fields.

    Attributes
    ----------
    node : str
    field : FieldInfo or None
        None where the hit is the node itself.
    """

    node: str
    field: FieldInfo | None = None


def search(directory: FieldDirectory, watch: Watch) -> APIRouter:
    """Return the route of the search."""
    routes = APIRouter(tags=["data"])

    @routes.get("/search", response_model=SearchAnswer)
    async def found(
        q: Annotated[str, Query(min_length=1, max_length=200, description="Words that must all occur.")],
        limit: Annotated[int, Query(ge=1, le=_MOST_HITS, description="Most hits to return.")] = 100,
    ) -> Response:
        """Find nodes and fields by words in their names, descriptions, units and timelines."""
        if not q.split():
            raise BadRequest("q contains no word; give words of names or descriptions")
        fields, warnings = await directory.fields(arrays=True)
        nodes = {each.name: each.description for each in watch.nodes if each.state != "gone"}
        hits, total = await run_in_threadpool(find, q, nodes, fields, limit)
        # An axis may be large: the fields of the node have it.
        content = [
            {"node": hit.node, "field": hit.field and field_content(replace(hit.field, axis=None))} for hit in hits
        ]
        return Response(
            json_bytes({"hits": content, "total": total, "warnings": warnings}), media_type="application/json"
        )

    return routes


def find(
    words: str, nodes: Mapping[str, str | None], fields: Mapping[str, Mapping[str, FieldInfo]], limit: int
) -> tuple[list[Hit], int]:
    """Return the nodes and fields in which all words occur, names before descriptions, and their number.

    At least one word must occur in the field; others may occur in the name or the description of its node.

    Parameters
    ----------
    words : str
        At least one, separated by blanks; case does not matter.
    nodes : mapping of str to str or None
        Descriptions of the nodes, by name.
    fields : mapping of str to mapping of str to FieldInfo
        Fields by name, by node.
    limit : int
        Most hits to return.

    Returns
    -------
    hits : list of Hit
        The best first; among equals those of the same node together, in the order of `nodes`.
    total : int
        Number of all hits, also beyond the limit.
    """
    wanted = words.lower().split()
    ranked = [(rank, hit) for rank, hit in _matches(wanted, nodes, fields) if rank is not None]
    ranked.sort(key=lambda each: each[0])
    return [hit for _, hit in ranked[:limit]], len(ranked)


def _matches(
    wanted: Sequence[str], nodes: Mapping[str, str | None], fields: Mapping[str, Mapping[str, FieldInfo]]
) -> Iterator[tuple[int | None, Hit]]:
    for node, description in nodes.items():
        name, about = node.lower(), f"{node} {description or ''}".lower()
        yield _rank(wanted, name, about), Hit(node)
        for info in fields.get(node, {}).values():
            own_name = info.name.lower()
            own = f"{info.name} {info.description or ''} {info.units or ''} {info.timeline}".lower()
            if any(word in own for word in wanted):
                yield _rank(wanted, own_name, f"{own} {about}"), Hit(node, info)


def _rank(wanted: Sequence[str], name: str, text: str) -> int | None:
    """Return the rank of a match, 0 for the best; None if not all words occur."""
    if not all(word in text for word in wanted):
        return None
    if wanted == [name]:
        return 0
    if not all(word in name for word in wanted):
        return 3
    return 1 if name.startswith(wanted[0]) else 2
