"""The command line: `sisock` and ``python -m sisock``."""
