"""The limit of a session's messages, and whether an answer fits."""

from typing import Any

from autobahn.wamp.message import Yield

from sisock.wamp.session import Session


def serializer_of(session: Session) -> str:
    """Return the name of a session's serializer, such as ``json``."""
    return str(session._transport._serializer.SERIALIZER_ID)  # noqa: SLF001 - no public way


def message_limit(session: Session) -> int:
    """Return the bytes that a message to the router may have: autobahn's limit, RawSocket's and the site's."""
    transport = session._transport  # noqa: SLF001 - no public way
    limits = (
        getattr(transport, "maxMessagePayloadSize", None),
        getattr(transport, "_max_len_send", None),
        session.access.max_message_size,
    )
    return min(limit for limit in limits if limit)


def fits(session: Session, encoded: dict[str, Any]) -> bool:
    """Whether a message with this answer is one that the transport carries."""
    message, _ = session._transport._serializer.serialize(Yield(1, args=[encoded]))  # noqa: SLF001 - no public way
    return len(message) + 64 <= message_limit(session)
