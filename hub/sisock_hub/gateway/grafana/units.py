"""Units as Grafana names them."""

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
    """Return the name by which Grafana scales and shows units; those that it does not know it just shows."""
    return _UNITS.get(units, f"suffix:{units}") if units else None
