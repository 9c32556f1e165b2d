"""Grafana's names of units."""

from collections.abc import Mapping

_UNITS: Mapping[str, str] = {
    "%": "percent",
    "°C": "celsius",
    "K": "kelvin",
    "V": "volt",
    "mV": "mvolt",
    "A": "amp",
    "mA": "mamp",
    "W": "watt",
    "Hz": "hertz",
    "Ω": "ohm",
    "Pa": "pressurepa",
    "hPa": "pressurehpa",
    "mbar": "pressurembar",
    "bar": "pressurebar",
    "s": "s",
    "ms": "ms",
    "µs": "µs",
    "B": "bytes",
    "B/s": "binBps",
    "m/s": "velocityms",
    "m": "lengthm",
    "mm": "lengthmm",
}


def grafana_unit(units: str | None) -> str | None:
    """Return Grafana's name of units, a suffix where it has none; None for pure numbers."""
    return _UNITS.get(units, f"suffix:{units}") if units and units != "1" else None
