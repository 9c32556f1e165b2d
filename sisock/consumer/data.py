"""Answers of nodes: samples as arrays, data frames or datasets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sisock.consumer.align import Align, datetimes, frame_of, joined
from sisock.consumer.info import FieldInfo
from sisock.consumer.resample import How, resampled
from sisock.errors import BadRequest, NoSuchField
from sisock.fields import NO_VALUE, Column, FloatArray, Quantity, Samples
from sisock.timelike import Span, as_span

if TYPE_CHECKING:
    import pandas
    import xarray


class Data(Mapping[str, Column]):
    """Samples of some fields of a node: a mapping of field name to ndarray, shape (n,).

    Attributes
    ----------
    node : str
    timelines : dict of str to Samples
        The samples by timeline, with their times, gaps and watermarks.
    fields : dict of str to FieldInfo
        Units and descriptions.
    """

    def __init__(self, node: str, timelines: dict[str, Samples], empty: Sequence[str], fields: dict[str, FieldInfo]):
        self.node, self.timelines, self.fields = node, _with_lost(timelines, empty, fields), fields
        self._timeline_of = {name: tl for tl, samples in self.timelines.items() for name in samples.columns}
        self._empty = tuple(name for name in empty if name not in self._timeline_of)

    @property
    def lacks_some(self) -> bool:
        """Whether a field that was asked for has no sample."""
        return bool(self._empty)

    def __getitem__(self, name: str) -> Column:
        if name in self._timeline_of:
            return self.timelines[self._timeline_of[name]].columns[name]
        if name in self._empty:
            return _nothing(self.fields.get(name))
        raise NoSuchField(f"field {name!r} was not asked for; there are: {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        yield from self._timeline_of
        yield from self._empty

    def __len__(self) -> int:
        return len(self._timeline_of) + len(self._empty)

    def t(self, name: str) -> FloatArray:
        """Return the times of the field `name`: ndarray of float64, shape (n,), UNIX seconds."""
        if name in self._timeline_of:
            return self.timelines[self._timeline_of[name]].t
        self[name]  # raises for a field that was not asked for
        return np.empty(0)

    def units(self, name: str) -> str | None:
        """Return the units of the field `name`, if its node reports them.

        Raises
        ------
        BadRequest
            If they changed in the interval; `quantities` has the samples by units.
        """
        if len(parts := self.quantities(name)) > 1 and len({part.field.units for part in parts}) > 1:
            said = " and ".join(part.field.units or "none" for part in parts)
            raise BadRequest(
                f"field {name!r} has several units in this interval, {said}; quantities() has its samples by them"
            )
        return self.fields[name].units if name in self.fields else None

    def quantities(self, name: str) -> list[Quantity]:
        """Return the samples of the field `name` by units, and texts separate from numbers; mostly one part."""
        self[name]  # raises for a field that was not asked for
        if name not in self._timeline_of:
            return []
        return [self._stated(part) for part in self.timelines[self._timeline_of[name]].quantities(name)]

    def _stated(self, part: Quantity) -> Quantity:
        """Return a part with the units that its node describes, where they are not stated with the samples."""
        name = part.field.name
        samples, info = self.timelines[self._timeline_of[name]], self.fields.get(name)
        if name in samples.epochs or name in samples.units or info is None:
            return part
        return replace(part, field=replace(part.field, units=info.units))

    def frames(self) -> "dict[str, pandas.DataFrame]":
        """Return a DataFrame for each timeline, by its name, over UTC times with a column per field.

        Units are in ``attrs["units"]``. A field whose units changed has a column for each, such as ``level [mm]`` and
        ``level [m]``.

        Raises
        ------
        MissingExtra
            If pandas is not installed.

        Examples
        --------
        >>> for timeline, frame in data.frames().items():  # doctest: +SKIP
        ...     print(timeline, frame.mean(numeric_only=True))
        """
        pandas = optional_package("pandas")
        frames = {}
        for timeline, samples in self.timelines.items():
            parts = [part for name in samples.columns for part in self.quantities(name)]
            units = {part.label: part.field.units for part in parts}
            frames[timeline] = frame_of(pandas, samples.t, {part.label: part.spread() for part in parts}, units)
        return frames

    def to_pandas(self, align: Align = "ffill") -> "pandas.DataFrame":
        """Return one DataFrame over UTC times, one column per field, that plots as it is; units in ``attrs["units"]``.

        The samples of one timeline are as they are. Those of several have no times in common, and are aligned; `frames`
        has them as they are.

        Parameters
        ----------
        align : {"ffill", "nearest", "outer"}
            ``ffill``: at the times of all timelines, the last value of each field. ``nearest``: at the times of the
            timeline with the most samples, the nearest value. In both a value stands for three intervals of its
            timeline at the most, and never within a gap. ``outer``: at the times of all timelines, the values that were
            measured just then. What is missing is NaN for a number and NA for a bool, whose column is nullable then.

        Returns
        -------
        pandas.DataFrame
            A field whose units changed has a column for each, such as ``level [mm]`` and ``level [m]``.

        Raises
        ------
        BadRequest
            If there is no such alignment.
        MissingExtra
            If pandas is not installed.

        Examples
        --------
        >>> c.data("host", ["cpu.total", "load.1m"], "-10m").to_pandas().plot()  # doctest: +SKIP
        """
        return joined(self, align, optional_package("pandas"))

    def resample(self, every: Span, how: How = "mean") -> "Data":
        """Return the samples on even times, multiples of `every` since 1970, which all timelines share then.

        Parameters
        ----------
        every : float, str or timedelta
            Seconds, or such as ``"10s"``.
        how : {"mean", "min", "max", "first", "last"}
            What stands for the numbers of a bin, at its start; NaN counts only where there is nothing else. Of bools
            and strings it is the last, or the first. A bin without samples is left out.

        Returns
        -------
        Data
            A field whose units changed is one for each of them.

        Raises
        ------
        BadRequest
            If `every` is not a duration, or `how` not a method.

        Examples
        --------
        >>> c.data("host", "*", "-1h").resample("1m").to_pandas("outer")  # doctest: +SKIP
        """
        return resampled(self, as_span(every, "every"), how)

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw the numbers and bools over UTC time: a panel for each units, lines that break at gaps.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or sequence of these, optional
            Where to; a new figure when not given.
        **options : Any
            Of matplotlib's `plot`, such as ``color``.

        Returns
        -------
        matplotlib.axes.Axes or ndarray of these
            One for each units.

        Raises
        ------
        BadRequest
            If there is nothing to plot, or another number of axes is needed.
        MissingExtra
            If matplotlib is not installed.

        Examples
        --------
        >>> c.data("host", "load.*", "-1h").plot()  # doctest: +SKIP
        """
        from sisock.consumer.plot import plotted

        return plotted(self, ax, **options)

    def to_xarray(self) -> "xarray.Dataset":
        """Return a Dataset with one dimension of UTC times per timeline; units are in each variable's attrs.

        The last dimension of an array field is named after the field and its axis, such as ``spectrum.frequency``, and
        has the values of the axis as its coordinate.

        A field whose units changed is a variable for each, such as ``level [mm]`` and ``level [m]``.
        """
        xarray = optional_package("xarray")
        variables = {}
        coordinates: dict[str, Any] = {}
        for timeline, samples in self.timelines.items():
            coordinates[timeline] = (timeline, datetimes(samples.t))
            for part in (part for name in samples.columns for part in self.quantities(name)):
                info = self.fields.get(part.field.name)
                about = {"units": part.field.units, "long_name": info.description if info else None}
                attrs = {key: value for key, value in about.items() if value}
                names = [f"{part.label}.{i}" for i in range(part.values.ndim - 1)]
                if names and info and info.axis and len(info.axis.values) == part.values.shape[-1]:
                    names[-1] = f"{part.label}.{info.axis.name}"
                    along = {"units": info.axis.units} if info.axis.units else {}
                    coordinates[names[-1]] = (names[-1], np.array(info.axis.values), along)
                variables[part.label] = ((timeline, *names), part.spread(), attrs)
        return xarray.Dataset(variables, coordinates, {"node": self.node})

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _repr_html_(self) -> str:
        from sisock.consumer.html import data_tables

        return data_tables(self)

    def __repr__(self) -> str:
        lines = [f"<Data of node {self.node!r}>"]
        for timeline, samples in self.timelines.items():
            ends = np.datetime_as_string(datetimes(samples.t[[0, -1] if len(samples.t) else []]), unit="ms").tolist()
            lines.append(f"  {timeline}: {len(samples.t)} samples" + (f", {ends[0]}Z to {ends[1]}Z" if ends else ""))
            for part in (part for name in samples.columns for part in self.quantities(name)):
                units = f" [{part.field.units}]" if part.field.units not in (None, "", "1") else ""
                lines.append(f"    {part.field.name}{units}: {np.array2string(part.values, threshold=6, edgeitems=2)}")
        if self._empty:
            lines.append(f"  no samples: {', '.join(self._empty)}")
        return "\n".join(lines)


def _with_lost(
    timelines: Mapping[str, Samples], empty: Sequence[str], fields: Mapping[str, FieldInfo]
) -> dict[str, Samples]:
    """Return timelines in which those of which all samples are lost have an empty column for each of their fields."""
    whole = dict(timelines)
    for info in (fields[name] for name in empty if name in fields):
        samples = whole.get(info.timeline)
        if samples is not None and not len(samples.t):
            whole[info.timeline] = replace(samples, columns={**samples.columns, info.name: _nothing(info)})
    return whole


def _nothing(info: FieldInfo | None) -> Column:
    return np.empty(0, NO_VALUE[info.type][1] if info else float)


def optional_package(package: str) -> Any:
    """Return a package of an extra.

    Raises
    ------
    MissingExtra
        If it is not installed.
    """
    from importlib import import_module

    from sisock.errors import MissingExtra

    try:
        return import_module(package)
    except ImportError as error:
        raise MissingExtra(f"{package} is not installed; run: pip install 'sisock[{package}]'") from error
