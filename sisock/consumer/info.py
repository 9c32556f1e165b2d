"""Descriptions of nodes and fields."""

import math
from dataclasses import dataclass, replace

import numpy as np

from sisock.errors import BadRequest
from sisock.fields import Column, Field, FieldType, Samples, kind_of, labelled
from sisock.shapes import Axis
from sisock.times import Interval


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A data node, as the hub knows it."""

    name: str
    description: str | None


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A field, as its node describes it."""

    name: str
    type: FieldType
    units: str | None
    description: str | None
    timeline: str
    interval_s: float | None
    """Mean seconds between readings; None if aperiodic."""
    epochs: tuple[tuple[float, Field], ...] = ()
    """Where type or units changed in the interval that was asked for: since when, in UNIX seconds, it was what."""
    shape: tuple[int, ...] = ()
    """Of each sample, where it is an array of numbers."""
    axis: Axis | None = None
    """The coordinate of its last dimension."""

    def within(self, interval: Interval) -> "FieldInfo":
        """Return the field as described at the end of an interval, with the epochs of that interval."""
        if not self.epochs:
            return self
        ends = [*(since for since, _ in self.epochs[1:]), math.inf]
        known = zip(self.epochs, ends, strict=True)
        there = [epoch for epoch, end in known if epoch[0] < interval.end and end > interval.start] or self.epochs[:1]
        now = there[-1][1]
        return replace(self, type=now.type, units=now.units, epochs=tuple(there) if len(there) > 1 else ())

    @property
    def columns(self) -> dict[str, Field]:
        """The field in the requested interval, by a label for each unit; one for most fields."""
        return labelled(self.epochs) or {self.name: Field(self.name, self.type, self.units, self.description)}

    def values_in(self, samples: Samples) -> dict[str, Column]:
        """Return the values of the field among some samples, for those of `columns` that have some, each of shape (n,).

        Where a sample has other units than a column, there is NaN or None.

        Raises
        ------
        BadRequest
            If some have units that no column has, since they changed after the field was described.
        """
        found = {}
        # A node that does not state units with its samples has those that it describes.
        is_stated = self.name in samples.epochs or self.name in samples.units
        for part in samples.quantities(self.name) if self.name in samples.columns else ():
            fitting = [
                (label, then)
                for label, then in self.columns.items()
                if not is_stated or kind_of(then) == kind_of(part.field)
            ]
            if not fitting:
                units = part.field.units or f"{part.field.type} without units"
                raise BadRequest(f"field {self.name!r} became {units} meanwhile; ask again")
            (label, then), values = fitting[0], part.spread()
            is_narrow = values.dtype.kind == "b" and then.type == "number"
            found[label] = values.astype(np.float64) if is_narrow else values
        return found
