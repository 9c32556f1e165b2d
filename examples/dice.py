"""A data node in a few lines: a die that is thrown ten times a second."""

import random

from sisock import Field, Polled, Timeline, serve

throws = Timeline("throws", [Field("dice.value", units="1"), Field("dice.six", "bool")], interval_s=0.1)


def throw():
    value = random.randint(1, 6)
    return {"dice.value": value, "dice.six": value == 6}


serve("dice", Polled(throws, throw), description="A die, thrown ten times a second")
