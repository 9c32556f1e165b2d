"""Delivery of messages: to a webhook, by e-mail, or by apprise."""

import http.client
import json
import smtplib
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from functools import reduce
from importlib import import_module
from urllib.parse import quote, urlsplit

from sisock.alarm.notify import EmailSettings, Message, NotificationSettings, Target, is_raised
from sisock.alarm.settings import Severity
from sisock.errors import MissingExtra
from sisock.jsontext import as_text

# Seconds for which a target may be silent in one step of a delivery.
_TIMEOUT_S = 10.0
# Characters of a secret that stay as they are in a URL; those of a webhook may be several parts of a path.
_URL_CHARACTERS = "/:@!$&'()*+,;=-._~?%"
_TYPES: Mapping[Severity, str] = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


def sender(target: Target) -> Callable[[Message], None]:
    """Return a function that delivers a message to a target, and raises if it is not taken.

    No error has the secret of the target in its text: it would be logged, and reported to all clients.
    """
    secret = target.secret.get_secret_value() if target.secret is not None else ""
    deliver = _delivery(target.settings, secret)

    def send(message: Message) -> None:
        try:
            deliver(message)
        except Exception as error:
            text = as_text(error)
            hidden = reduce(lambda text, part: text.replace(part, "**********"), _shown_as(secret), text)
            if hidden == text:
                raise
            raise ConnectionError(f"{type(error).__name__}: {hidden}") from None

    return send


def _shown_as(secret: str) -> list[str]:
    """Return the forms in which errors may have a secret, the longest first; none for an empty one."""
    forms = {secret, _in_url(secret), repr(secret)[1:-1]} - {""}
    return sorted(forms, key=len, reverse=True)


def _in_url(secret: str) -> str:
    """Return a secret as it stands in a URL: characters that no URL has, such as blanks, are percent-encoded."""
    return quote(secret, safe=_URL_CHARACTERS)


def _delivery(settings: NotificationSettings, secret: str) -> Callable[[Message], None]:
    if settings.email is not None:
        email = settings.email
        return lambda message: send_email(email, secret, message)
    if settings.webhook is not None:
        url = settings.webhook.replace("{secret}", _in_url(secret))
        return lambda message: post(url, message)
    url = (settings.apprise or "").replace("{secret}", secret)
    return lambda message: send_by_apprise(url, message)


def post(url: str, message: Message) -> None:
    """Send a message to a webhook, as JSON; the key ``text`` is what Slack, Mattermost and others show.

    Raises
    ------
    OSError
        If it is not taken.
    """
    parts = urlsplit(url)
    content = {
        "title": message.title,
        "text": f"{message.title}\n{message.text}",
        "severity": message.severity,
        "alarms": [notice._asdict() for notice in message.notices],
        "more": message.more,
    }
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError(f"{parts.hostname} does not answer by HTTP: {error!r}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise ConnectionError(f"{parts.hostname} answers {status}")


def send_email(settings: EmailSettings, password: str, message: Message) -> None:
    """Send a message by e-mail.

    Raises
    ------
    OSError
        If the server does not take it.
    """
    mail = EmailMessage()
    mail["Subject"] = message.title[:200]
    mail["From"], mail["To"] = settings.sender, ", ".join(settings.to)
    mail.set_content(message.text)
    context = ssl.create_default_context()
    if settings.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(settings.server, settings.port, timeout=_TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(settings.server, settings.port, timeout=_TIMEOUT_S)
    with server:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.user is not None:
            server.login(settings.user, password)
        server.send_message(mail)


def send_by_apprise(url: str, message: Message) -> None:
    """Send a message by apprise.

    Raises
    ------
    MissingExtra
        If apprise is not installed.
    ConnectionError
        If it does not know the URL, or could not deliver.
    """
    try:
        apprise = import_module("apprise")
    except ImportError as error:
        raise MissingExtra("apprise is not installed; pip install 'sisock[notify]'") from error
    service = apprise.Apprise()
    if not service.add(url):
        raise ConnectionError("apprise does not know the URL of the target")
    kind = _TYPES[message.severity] if any(map(is_raised, message.notices)) else "success"
    if not service.notify(title=message.title, body=message.text, notify_type=kind):
        raise ConnectionError(f"apprise could not deliver to {urlsplit(url).scheme}")
