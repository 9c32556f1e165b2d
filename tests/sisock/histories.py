"""Histories on disk: ending them as a kill does, sealing what they have."""

import math


def quiet(history):
    """Have no upkeep in the background."""
    history._store.upkeep.stop()


def killed(history):
    """End a history as a kill does: nothing more is written, and the lock is gone."""
    quiet(history)
    history._store._lock_file.close()


def seal(history, *, whole=False):
    """Seal everything of the timeline ``tl`` that can be, now; when `whole`, also what is not final yet."""
    store = history._store
    writer = store.writers["tl"]
    if whole:
        store.finalize("tl", math.nextafter(writer.stored.span().end, math.inf))
    writer.rotate()
    writer.sync()
    store.sealer.seal_all(writer, math.inf)
