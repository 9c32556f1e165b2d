"""The parameters of a request, from its form and its URL."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from fastapi import Request

from sisock.errors import BadRequest, TooLarge

_MOST_BYTES = 1_000_000
_FORM = "application/x-www-form-urlencoded"


class Parameters:
    """The parameters of a request; those of the form come first."""

    def __init__(self, pairs: Sequence[tuple[str, str]], path: Mapping[str, str]) -> None:
        self._pairs = pairs
        self.path = path

    def all(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        return [value for key, value in self._pairs if key == name]

    def get(self, name: str) -> str | None:
        """Return a parameter; None if it is missing or empty."""
        return next(iter(self.all(name)), None) or None

    def required(self, name: str) -> str:
        """Return a parameter.

        Raises
        ------
        BadRequest
            If it is missing or empty.
        """
        value = self.get(name)
        if value is None:
            raise BadRequest(f"the parameter {name} is missing")
        return value

    def limit(self, name: str = "limit") -> int | None:
        """Return the maximum number of entries; None for all, which is also the meaning of 0.

        Raises
        ------
        BadRequest
            If it is not a number.
        """
        text = self.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise BadRequest(f"{name} is {text!r}; give a number of entries")
        return int(text) or None


async def parameters(request: Request) -> Parameters:
    """Read the parameters of a request.

    Raises
    ------
    BadRequest
        If the form has another content type than ``application/x-www-form-urlencoded``.
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
        raise BadRequest(f"the content type of the form is {kind}; send {_FORM}")
    try:
        form = parse_qsl(body.decode(), keep_blank_values=True)
    except ValueError as error:
        raise BadRequest(f"the form cannot be read: {error}") from error
    return Parameters([*form, *pairs], request.path_params)
