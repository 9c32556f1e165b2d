"""Damage at random places in the files of histories, without a site."""

import os

from tests.faults.damage import run
from tests.faults.registry import Fault, fault


@fault
class RandomDamage(Fault):
    """A file of a history is flipped, cut, zeroed, swapped or removed at a random place, 1,000 times; without a site."""

    name, part, needs_site = "damage-random", "damage", False

    @classmethod
    def alone(cls, seed: int) -> list[str]:
        trials = int(os.environ.get("SISOCK_FAULT_TRIALS", "1000"))
        return [f"{one.seed} {one.what}: {'; '.join(one.errors)}" for one in run(seed, trials)]
