"""Errors of messages that need another service to be read."""

from sisock.errors import SisockError


class NoRegistry(SisockError, ConnectionError):
    """The schema registry does not answer, or not what was asked; messages wait for it."""

    name = "no_registry"
    retriable = True
