"""``make faults``: inject faults into a real site, and print what became of it."""

import argparse
import json
import random
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.driver import run_all
from tests.faults.injected import load
from tests.faults.registry import FAULTS, Fault, Outcome

_RESULTS = Path(__file__).parent / "latest.json"


def chosen(only: str | None) -> list[type[Fault]]:
    """Return the faults of the parts, or with the names, that are listed with commas; all of them for None."""
    load()
    if only is None:
        return list(FAULTS)
    wanted = {each.strip() for each in only.split(",")}
    if unknown := wanted - {kind.name for kind in FAULTS} - {kind.part for kind in FAULTS}:
        parts = sorted({kind.part for kind in FAULTS})
        sys.exit(f"there is no fault or part {', '.join(sorted(unknown))}; parts: {', '.join(parts)}; see --list")
    return [kind for kind in FAULTS if wanted & {kind.name, kind.part}]


def table(outcomes: list[Outcome]) -> Table:
    """Return what became of the faults, as a table."""
    result = Table("fault", "", "lost", "doubled", "changed", "grew by", "kept", "recovery", "violations")
    for one in outcomes:
        mark = "[yellow]not run" if one.not_run else "[green]passed" if one.passed else "[red]failed"
        grew, kept = (
            max(sizes.items(), key=lambda item: item[1], default=("", 0.0)) for sizes in (one.peak_mb, one.after_mb)
        )
        result.add_row(
            f"{one.fault} {one.repeat + 1}",
            mark,
            *map(str, (one.lost, one.doubled, one.changed)),
            f"{grew[1]:.0f} MB {grew[0]}",
            f"{kept[1]:.0f} MB {kept[0]}",
            "" if one.recovery_s is None else f"{one.recovery_s:.1f} s",
            one.not_run or "\n".join(one.violations),
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--only", help="parts or faults, with commas between them")
    parser.add_argument("--seed", type=int, help="by which all that is left to chance is decided")
    parser.add_argument("--repeat", type=int, help="how often each fault is injected")
    parser.add_argument("--slack", type=float, default=1.0, help="by what the time for recovery is multiplied")
    parser.add_argument("--list", action="store_true", help="list the faults")
    options = parser.parse_args()
    kinds = chosen(options.only)
    # A table that nobody looks at in a terminal is as wide as it must be.
    console = Console(width=None if sys.stdout.isatty() else 180)
    if options.list:
        for kind in kinds:
            console.print(f"[bold]{kind.name}[/bold]\t{(kind.__doc__ or '').splitlines()[0]}", soft_wrap=True)
        return
    # So that nothing is left behind, neither processes nor mounts.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = random.randrange(10**6) if options.seed is None else options.seed
    outcomes: list[Outcome] = []
    console.print(f"seed {seed}; {len(kinds)} faults")

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        mark = (
            "[yellow]not run[/yellow]"
            if outcome.not_run
            else "[green]passed[/green]"
            if outcome.passed
            else "[red]failed[/red]"
        )
        said = outcome.not_run or "; ".join(outcome.violations)
        console.print(
            f"{len(outcomes):3} {mark} {outcome.fault} {outcome.repeat + 1} ({outcome.seconds:.0f} s) {said}",
            soft_wrap=True,
        )

    try:
        run_all(kinds, seed, report, repeats=options.repeat, slack=options.slack)
    finally:
        console.print(table(outcomes))
        results = {
            "seed": seed,
            "time": time.time(),
            "outcomes": [{**asdict(one), "passed": one.passed} for one in outcomes],
        }
        _RESULTS.write_text(json.dumps(results, indent=1))
    failed = sum(not one.passed and one.not_run is None for one in outcomes)
    not_run = sum(one.not_run is not None for one in outcomes)
    console.print(f"{len(outcomes)} injected, {failed} failed, {not_run} not run; {_RESULTS}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
