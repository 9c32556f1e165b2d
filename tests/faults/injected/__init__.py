"""The faults, by what they attack. A module more is found without being named anywhere."""

import pkgutil
from importlib import import_module


def load() -> None:
    """Register all faults."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        import_module(f"{__name__}.{module.name}")
