"""How records are described: their layout, their names, their time."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from sisock.fields import Field as QuantityField
from sisock.fields import FieldType
from sisock.settings import Settings
from sisock_nodes.records.layout import Layout, catman_layout, struct_layout
from sisock_nodes.records.values import TEXT, BoolPair, BoolTexts

Name = Annotated[str, Field(min_length=1, max_length=200)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scale = _Seconds | Annotated[list[_Seconds], Field(min_length=2, max_length=10)]


def scales_of(scale: float | list[float], count: int, what: str) -> list[float]:
    """Return the scale of each of the values that are the time.

    Parameters
    ----------
    scale : float or list of float
        Seconds in the unit of one value, or of each of several.
    count : int
        How many values there are.
    what : str
        The setting that names them.

    Raises
    ------
    ValueError
        If there are not as many scales as values.
    """
    scales = scale if isinstance(scale, list) else [scale]
    if len(scales) != max(count, 1):
        raise ValueError(
            f"time.scale has {len(scales)} and {what} {count}; give one scale for each value, such as [1, 1.0e-9]"
        )
    return scales


class TimeSettings(Settings):
    """Unit and origin of the value that is the time."""

    scale: Scale = 1.0
    """Seconds in its unit: 0.001 for milliseconds; one for each where several values are the time."""
    offset: float = Field(0.0, allow_inf_nan=False)
    """Seconds to add, after scaling."""
    origin: Literal["epoch", "start"] = "epoch"
    """Where it counts from: 1970, or the start of the source, whose first record is taken to be of its arrival."""


class RecordSettings(Settings):
    """Records of numbers, texts and flags, one after the other."""

    # The schema requires one of them, so that forms and editors show it.
    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["byte_format"]}, {"required": ["catman"]}]})

    byte_format: str | None = Field(None, max_length=10_000)
    """Format of a record as Python's struct has it, with its byte order: ``<4d``."""
    catman: bool = False
    """Whether records are those of HBM's Catman: without `byte_format`, the names being those of the channels."""
    single: bool = False
    """Whether Catman's channels are float32; otherwise float64."""
    input_names: list[Name] = Field(min_length=1, max_length=10_000)
    """Names of all values of a record, in order of their bytes."""
    output_refs: list[int | Name] | None = Field(None, min_length=1)
    """Which values to keep, by index or by name; by default all."""
    time_index: int | Annotated[list[int], Field(min_length=2, max_length=10)] | None = None
    """Which value is the time; negative ones count from the end; several are added, each in its unit, as of seconds and
    nanoseconds. By default the time of arrival is taken."""
    time: TimeSettings = TimeSettings()
    units: dict[str, str] = Field(default_factory=dict)
    """Units of values, by name."""
    descriptions: dict[str, str] = Field(default_factory=dict)
    """Descriptions of values, by name."""
    types: dict[str, Literal["bool"]] = Field(default_factory=dict)
    """``bool`` for texts and numbers that are bools, by name: true/false, 1/0, on/off, yes/no."""
    bool_texts: dict[str, BoolPair] = Field(default_factory=dict)
    """The text that is true and the text that is false, such as ``[open, closed]``, by name."""
    missing: tuple[str, ...] = ()
    """Marks that mean that there is no value; numbers match however they are written."""
    _layout: Layout = PrivateAttr()
    _kept: list[int] = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.catman and self.byte_format is not None:
            raise ValueError("catman has a format of its own; leave out byte_format")
        if self.single and not self.catman:
            raise ValueError("single is for catman; elsewhere the format determines it: f is float32")
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
        for index in self.timed_by:
            timed = self._layout.values[index]
            if timed.type != "number":
                raise ValueError(f"time_index {self.time_index} is {timed.name!r}, which is not a number: {timed.type}")
        scales_of(self.time.scale, len(self.timed_by), "time_index")
        for key in ("units", "descriptions", "types", "bool_texts"):
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
    def timed_by(self) -> Sequence[int]:
        """Indices of the values that are the time; none for the time of arrival."""
        if self.time_index is None:
            return []
        indices = self.time_index if isinstance(self.time_index, list) else [self.time_index]
        return [self._index(index, "time_index") for index in indices]

    @property
    def bools(self) -> Mapping[str, BoolTexts]:
        """Texts of true and false of the values that are bools, by name."""
        named = {**dict.fromkeys(self.types), **self.bool_texts}
        return {name: BoolTexts(pair) for name, pair in named.items()}

    def fields(self, prefix: str) -> list[QuantityField]:
        """Return the fields that the kept values become, each name after `prefix`."""
        units, about, bools = self.units, self.descriptions, self.bools
        fields = []
        for index in self._kept:
            v = self._layout.values[index]
            kind: FieldType = "bool" if v.name in bools else v.type
            fields.append(QuantityField(prefix + v.name, kind, units.get(v.name), about.get(v.name)))
            if v.name in bools:
                fields.append(QuantityField(f"{prefix}{v.name}{TEXT}", "string"))
        return fields
