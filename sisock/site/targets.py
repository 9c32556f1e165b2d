"""Targets of notifications, with their secrets."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from sisock.alarm.notify import NotificationSettings, Target
from sisock.errors import MissingExtra, SiteError
from sisock.patterns import did_you_mean, matching
from sisock.site.secrets import Secrets


def make_targets(
    notifications: Mapping[str, NotificationSettings], secrets_path: Path, secrets: Callable[[], Secrets]
) -> list[Target]:
    """Return the targets of a site.

    Parameters
    ----------
    notifications : mapping of str to NotificationSettings
        By name.
    secrets_path : Path
        For errors.
    secrets : callable
        Returns the secrets of the site; called only if a target has one.

    Raises
    ------
    SiteError
        If a secret is missing.
    """
    targets, missing = [], []
    for name, settings in notifications.items():
        secret = secrets().notifications.get(name) if settings.needs_secret else None
        if settings.needs_secret and secret is None:
            missing.append(
                f"{secrets_path}: notification target {name} has no secret; add `notifications: {{{name}: …}}`"
            )
        targets.append(Target(name, settings, secret))
    if missing:
        raise SiteError(missing)
    return targets


def target_problems(
    notifications: Mapping[str, NotificationSettings], nodes: Collection[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys and errors of targets: packages that are not installed, nodes that the site does not have."""
    for name, target in notifications.items():
        try:
            target.check()
        except MissingExtra as error:
            yield ("notifications", name), error.message
        for pattern in target.nodes:
            if pattern != "*" and not matching(pattern, nodes):
                hint = did_you_mean(pattern, nodes) or f"it has: {', '.join(nodes) or 'none'}"
                yield ("notifications", name, "nodes"), f"the site has no node {pattern!r}; {hint}"
