"""The list of nodes and the dict of fields that notebooks show as tables."""

from sisock.consumer.html import table
from sisock.consumer.info import FieldInfo, NodeInfo


class NodeList(list[NodeInfo]):
    """Nodes, as the hub knows them."""

    def _repr_html_(self) -> str:
        return table(("node", "description"), [(info.name, info.description) for info in self])


class FieldList(dict[str, FieldInfo]):
    """Fields by name, as their node describes them."""

    def _repr_html_(self) -> str:
        head = ("field", "type", "units", "timeline", "every s", "description")
        rows = [(i.name, i.type, i.units, i.timeline, i.interval_s, i.description) for i in self.values()]
        return table(head, rows)
