"""How records are described: their layout, their names, their time."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from sisock.fields import Field as QuantityField
from sisock.site import Settings
from sisock_nodes.records.layout import Layout, catman_layout, struct_layout

Name = Annotated[str, Field(min_length=1, max_length=200)]


class TimeSettings(Settings):
    """What the value that is the time means."""

    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Seconds in its unit: 0.001 for milliseconds."""
    offset: float = Field(0.0, allow_inf_nan=False)
    """Seconds to add, after scaling."""
    origin: Literal["epoch", "start"] = "epoch"
    """Where it counts from: 1970, or the start of the source, whose first record is taken to be of its arrival."""


class RecordSettings(Settings):
    """Records of numbers, texts and flags, one after the other."""

    byte_format: str | None = Field(None, max_length=10_000)
    """Format of a record as Python's struct has it, with its byte order: ``<4d``."""
    catman: bool = False
    """Whether records are those of HBM's Catman: without `byte_format`, the names being those of the channels."""
    single: bool = False
    """Whether Catman's channels are float32; otherwise float64."""
    input_names: list[Name] = Field(min_length=1, max_length=10_000)
    """Names of all values of a record, in their order."""
    output_refs: list[int | Name] | None = Field(None, min_length=1)
    """Which values to keep, by index or by name; by default all."""
    time_index: int | None = None
    """Which value is the time; negative ones count from the end; by default the time of arrival is taken."""
    time: TimeSettings = TimeSettings()
    units: dict[str, str] = Field(default_factory=dict)
    """Units of values, by name."""
    descriptions: dict[str, str] = Field(default_factory=dict)
    """Descriptions of values, by name."""
    _layout: Layout = PrivateAttr()
    _kept: list[int] = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.catman and self.byte_format is not None:
            raise ValueError("catman has a format of its own; leave out byte_format")
        if self.single and not self.catman:
            raise ValueError("single is for catman; without it the format tells: f is float32")
        if self.catman:
            self._layout = catman_layout(self.input_names, single=self.single)
        elif self.byte_format is None:
            raise ValueError("byte_format is missing; give the format of a record, such as <4d, or catman: true")
        else:
            self._layout = struct_layout(self.byte_format, self.input_names)
        refs = range(len(self.input_names)) if self.output_refs is None else self.output_refs
        self._kept = [self._index(ref, "output_refs") for ref in refs]
        if len(set(self._kept)) < len(self._kept):
            raise ValueError("output_refs names a value more than once")
        if self.time_index is not None:
            timed = self._layout.values[self._index(self.time_index, "time_index")]
            if timed.type != "number":
                raise ValueError(f"time_index {self.time_index} is {timed.name!r}, which is no number: {timed.type}")
        for key in ("units", "descriptions"):
            if unknown := getattr(self, key).keys() - set(self.input_names):
                raise ValueError(f"{key} names {', '.join(map(repr, sorted(unknown)))}, which is not in input_names")
        return self

    def _index(self, ref: int | str, key: str) -> int:
        n = len(self.input_names)
        if isinstance(ref, str):
            if ref not in self.input_names:
                raise ValueError(f"{key} names {ref!r}, which input_names does not have")
            return self.input_names.index(ref)
        if not -n <= ref < n:
            raise ValueError(f"{key} has {ref}, but there are {n} values: 0 to {n - 1}, or -1 for the last")
        return ref % n

    @property
    def layout(self) -> Layout:
        """How a record lies in bytes."""
        return self._layout

    @property
    def kept(self) -> Sequence[int]:
        """Indices of the values that are kept."""
        return self._kept

    @property
    def timed_by(self) -> int | None:
        """Index of the value that is the time; None for the time of arrival."""
        return None if self.time_index is None else self._index(self.time_index, "time_index")

    def fields(self, prefix: str) -> list[QuantityField]:
        """Return the fields that the kept values become, each name after `prefix`."""
        values = (self._layout.values[index] for index in self._kept)
        units, about = self.units, self.descriptions
        return [QuantityField(prefix + v.name, v.type, units.get(v.name), about.get(v.name)) for v in values]
