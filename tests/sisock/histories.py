"""Histories on disk: with their store at hand, ended as by a kill, and sealed."""

import math
import shutil
from pathlib import Path

from sisock.history import History
from sisock.history.store import Store


class StoredHistory(History):
    """A history that shows its store, whose upkeep may be left to the test.

    Parameters
    ----------
    in_background : bool
        Of the `Store`; the others are those of a `History`.
    """

    def __init__(self, *arguments, in_background=True, **more):
        self.store = None

        def open_store(*about):
            self.store = Store(*about, in_background=in_background)
            return self.store

        super().__init__(*arguments, open_store=open_store, **more)


def killed(history):
    """End a history, and leave its folder as it is at this moment, as a kill does."""
    history.store.upkeep.stop()
    path = Path(history.summary()["path"])
    present = path.with_name(f"{path.name}-as-it-was")
    shutil.copytree(path, present)
    history.store.close()
    for each in path.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    for each in present.iterdir():
        each.rename(path / each.name)
    present.rmdir()


def seal(history, *, whole=False):
    """Seal everything of the timeline ``tl`` that can be, now; when `whole`, also what is not final yet."""
    store = history.store
    writer = store.writers["tl"]
    if whole:
        store.finalize("tl", math.nextafter(writer.stored.span().end, math.inf))
    writer.rotate()
    writer.sync()
    store.sealer.seal_all(writer, math.inf)
