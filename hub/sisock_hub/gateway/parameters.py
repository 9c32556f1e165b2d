"""The parameters of a request, from its form and its URL."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from fastapi import Request

from sisock.errors import BadRequest, TooLarge

_MOST_BYTES = 1_000_000
_FORM = "application/x-www-form-urlencoded"


class Parameters:
    """The parameters of a request; where one is there twice, that of the form comes first."""

    def __init__(self, pairs: Sequence[tuple[str, str]], path: Mapping[str, str]) -> None:
        self._pairs = pairs
        self.path = path

    def all(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        return [value for key, value in self._pairs if key == name]

    def get(self, name: str) -> str | None:
        """Return a parameter; None where it is not there, or empty."""
        return next(iter(self.all(name)), None) or None

    def required(self, name: str) -> str:
        """Return a parameter.

        Raises
        ------
        BadRequest
            If it is not there.
        """
        value = self.get(name)
        if value is None:
            raise BadRequest(f"the parameter {name} is missing")
        return value

    def limit(self, name: str = "limit") -> int | None:
        """Return the most entries to answer with; None for all, which 0 means, too.

        Raises
        ------
        BadRequest
            If it is no number.
        """
        said = self.get(name)
        if said is None:
            return None
        if not (said.isascii() and said.isdigit() and len(said) < 10):
            raise BadRequest(f"{name} is {said!r}; give a number of entries")
        return int(said) or None


async def parameters(request: Request) -> Parameters:
    """Read the parameters of a request.

    Raises
    ------
    BadRequest
        If the form is of another kind than ``application/x-www-form-urlencoded``.
    TooLarge
        If it has more than a million bytes.
    """
    pairs = list(request.query_params.multi_items())
    if request.method != "POST":
        return Parameters(pairs, request.path_params)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise TooLarge(f"the form has more than {_MOST_BYTES:,} bytes")
    kind = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    if body and kind != _FORM:
        raise BadRequest(f"the form comes as {kind}; send it as {_FORM}")
    try:
        form = parse_qsl(body.decode(), keep_blank_values=True)
    except ValueError as error:
        raise BadRequest(f"the form cannot be read: {error}") from error
    return Parameters([*form, *pairs], request.path_params)
