"""A parsed query: the samples that it needs, and its evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sisock_hub.gateway.promql.evaluation import Samples, rows
from sisock_hub.gateway.promql.expressions import Aggregated, Calculated, Expression
from sisock_hub.gateway.promql.selection import Selection
from sisock_hub.gateway.promql.series import FloatArray, Series


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query.

    Attributes
    ----------
    text : str
    expression : Expression
        A float, where the query is a constant.
    """

    text: str
    expression: Expression

    @property
    def is_scalar(self) -> bool:
        """Whether the result is one number without labels."""
        return isinstance(self.expression, float)

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The selections of samples that it needs, each once."""
        return tuple(dict.fromkeys(_selections(self.expression)))

    def evaluate(self, samples: Samples, times: FloatArray) -> list[Series]:
        """Return the series of the result.

        Parameters
        ----------
        samples : mapping of Selection to sequence of Track
            The samples of each of `selections`, in all of its `Selection.interval`.
        times : ndarray of float64, shape (m,)
            UNIX seconds, ascending.

        Returns
        -------
        list of Series
            With at least one value each, in the order of their labels. A scalar is one series without labels.

        Raises
        ------
        NotSupported
            If two series would have the same labels.
        """
        if isinstance(self.expression, float):
            return [Series({}, times, np.full(len(times), self.expression))]
        found = sorted(rows(self.expression, samples, times), key=lambda row: sorted(row.labels.items()))
        return [Series(row.labels, times[row.there], row.values[row.there]) for row in found if row.there.any()]


def _selections(expression: Expression) -> Iterator[Selection]:
    match expression:
        case Selection():
            yield expression
        case Aggregated():
            yield from _selections(expression.of)
        case Calculated():
            yield from _selections(expression.left)
            yield from _selections(expression.right)
