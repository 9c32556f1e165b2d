"""Errors of queries with valid syntax."""

from sisock.errors import SisockError


class NotSupported(SisockError, NotImplementedError):
    """Prometheus can do this; the gateway cannot."""

    name = "not_supported"
