"""Tables of nodes, as a consumer asks for them and reads the answer."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sisock.consumer.align import datetimes
from sisock.consumer.data import optional_package
from sisock.consumer.events import EventReading
from sisock.consumer.html import table as html_table
from sisock.errors import BadAnswer, BadRequest, NoSuchField
from sisock.fields import Column
from sisock.tables.columns import Columns, typed
from sisock.timelike import as_time
from sisock.wamp.wire import unpack

if TYPE_CHECKING:
    import pandas

Order = Literal["ascending", "descending"]
Condition = str | Sequence[Any]
"""``[column, op, value]``, or a text such as ``energy > 2.5``."""
# Most rows of a request.
_MOST = 100_000


class TablePage(Mapping[str, Column]):
    """Rows of a table of a node: a mapping of column name to ndarray, shape (n,).

    Attributes
    ----------
    node, name : str
        Of the node and of the table.
    types : dict of str to str
        Of the columns: time (UNIX seconds), number, integer, bool, text or json.
    numbers : ndarray of int64, shape (n,)
        Of the rows; none is used twice.
    cursor : int
        To be given as `after` to read what follows.
    oldest : int
        Number of the oldest row that the node keeps.
    more : bool
        Whether further rows follow.
    """

    def __init__(self, node: str, name: str, types: Columns, numbers: NDArray[np.int64], columns: dict[str, Column]):
        self.node, self.name, self.types, self.numbers = node, name, dict(types), numbers
        self._columns = columns
        self.cursor = self.oldest = 0
        self.more = False

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            raise NoSuchField(f"column {name!r} was not asked for; there are: {', '.join(self._columns)}")
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, each as a dict of its values by column."""
        columns = [values.tolist() for values in self._columns.values()]
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a DataFrame with the numbers of the rows as index; times are in UTC.

        Raises
        ------
        MissingExtra
            If pandas is not installed.
        """
        pandas = optional_package("pandas")
        columns = {
            name: pandas.to_datetime(datetimes(values), utc=True) if self.types[name] == "time" else values
            for name, values in self._columns.items()
        }
        return pandas.DataFrame(columns, index=pandas.Index(self.numbers, name="row"))  # type: ignore[no-any-return]

    def _repr_html_(self) -> str:
        rows = list(zip(self.numbers.tolist(), *(self[name].tolist() for name in self), strict=True))
        return html_table(["row", *self], rows, f"{self.name}: {len(rows):,} rows of node {self.node}")

    def __repr__(self) -> str:
        return f"<TablePage {self.name} of node {self.node!r}: {len(self.numbers)} rows of {', '.join(self)}>"


class TableRequest:
    """The requests for rows of a table, page by page.

    Parameters
    ----------
    node, name : str
    limit : int or None
        Most rows.
    order : {"ascending", "descending"}
    which : mapping
        The other arguments of the query ``table``.

    Raises
    ------
    BadRequest
        If a condition has a value that is not a time.
    """

    def __init__(self, node: str, name: str, limit: int | None, order: Order, which: Mapping[str, Any]) -> None:
        self._node, self._name, self._order = node, name, order
        self._which = {"name": name, "order": order, "encoding": "packed", **table_arguments(which)}
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise BadRequest(f"limit is {limit!r}; give a whole number from 1 on, or None for all rows")
        self._left = limit
        self._pages: list[TablePage] = []
        self.is_done = False

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the next request."""
        return {**self._which, "limit": _MOST if self._left is None else min(self._left, _MOST)}

    def answered(self, answer: Any) -> None:
        """Take an answer.

        Raises
        ------
        BadAnswer
            If it is not of the contract.
        """
        page = page_of(self._node, self._name, answer)
        self._pages.append(page)
        if self._left is not None:
            self._left -= len(page.numbers)
        self.is_done = not page.more or self._left == 0 or not len(page.numbers)
        if self._order == "ascending":
            self._which["after"] = page.cursor
        elif len(page.numbers):
            self._which["before"] = int(page.numbers[-1])

    def result(self) -> TablePage:
        """Return the rows of all answers."""
        if len(self._pages) == 1:
            return self._pages[0]
        first, last = self._pages[0], self._pages[-1]
        columns = {name: np.concatenate([page[name] for page in self._pages]) for name in first}
        numbers = np.concatenate([page.numbers for page in self._pages])
        whole = TablePage(self._node, self._name, first.types, numbers, columns)
        # In descending order, the cursor leads to what is newer than the first page.
        whole.cursor = last.cursor if self._order == "ascending" else first.cursor
        whole.oldest, whole.more = last.oldest, last.more
        return whole


class TableReading(EventReading):
    """The requests of a reader of a table, and when they are due."""

    query = "table"
    _newest: ClassVar[Mapping[str, Any]] = {"limit": 1, "order": "descending"}

    def _topic(self, which: Mapping[str, Any]) -> str:
        return "events" if which["name"] == "events" else f"table.{which['name']}"

    def _page(self, answer: Any) -> TablePage:
        return page_of(self._node, self._which["name"], answer)

    def _has_some(self, page: TablePage) -> bool:
        return bool(len(page.numbers))


def table_arguments(which: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of the query ``table``, without those that are None; times in conditions are UNIX seconds."""
    found = {name: value for name, value in which.items() if value is not None}
    if isinstance(found.get("columns"), str):
        found["columns"] = [found["columns"]]
    if isinstance(found.get("conditions"), str):
        found["conditions"] = [found["conditions"]]
    found["conditions"] = [
        each if isinstance(each, str) else [_plain(part) for part in each] for each in found.get("conditions", ())
    ]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | np.datetime64):
        return as_time(value, "a time of a condition")
    return [_plain(each) for each in value] if isinstance(value, list | tuple | set) else value


def page_of(node: str, name: str, answer: Any) -> TablePage:
    """Return the rows that an answer of ``query.table`` stands for.

    Raises
    ------
    BadAnswer
        If it is not of the contract.
    """
    try:
        types, columns = answer["types"], answer["columns"]
        numbers = np.asarray(unpack(answer["numbers"]), np.int64)
        found = {each: typed(types[each], _unpacked(types[each], values)) for each, values in columns.items()}
        page = TablePage(node, name, types, numbers, found)
        page.cursor, page.oldest = int(answer["cursor"]), int(answer["oldest"])
        page.more = bool(answer["more"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"query.table of node {node!r} answered something else than rows: {error!r}") from error
    if any(len(values) != len(numbers) for values in found.values()):
        raise BadAnswer(f"query.table of node {node!r} answered with columns of different lengths")
    return page


def _unpacked(kind: str, values: Any) -> Any:
    return values if kind in ("text", "json") else unpack(values)
