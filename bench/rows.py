"""One line of the table of measurements."""

from dataclasses import asdict, dataclass


@dataclass
class Row:
    """One line of the table; `holds` is None where there is no goal."""

    name: str
    ours: float
    unit: str
    reference: float | None = None
    goal: float | None = None
    at_most: bool = False

    @property
    def ratio(self):
        return self.ours / self.reference if self.reference else None

    @property
    def holds(self):
        if self.goal is None:
            return None
        value = self.ours if self.reference is None else self.ratio
        return value <= self.goal if self.at_most else value >= self.goal

    def as_dict(self):
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}
