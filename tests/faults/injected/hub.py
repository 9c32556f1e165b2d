"""Faults of the hub."""

import os
import signal
import subprocess

from tests.faults.injected.router import not_ready
from tests.faults.observer import Seen
from tests.faults.registry import Fault, Moment, fault


@fault
class HubKill(Fault):
    """The hub is killed and started again 1 s later."""

    name, part, short, hold_s = "hub-kill", "hub", True, 1.0

    def inject(self) -> None:
        self.site.parts["hub"].held = True
        self.site.parts["hub"].kill()

    def heal(self) -> None:
        self.site.parts["hub"].held = False


@fault
class HubFreeze(Fault):
    """The hub is stopped (SIGSTOP) for 12 s."""

    name, part, hold_s = "hub-freeze", "hub", 12.0

    def inject(self) -> None:
        self.site.parts["hub"].signal(signal.SIGSTOP)

    def heal(self) -> None:
        self.site.parts["hub"].signal(signal.SIGCONT)

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        return not_ready(seen, moment)


@fault
class TwoClaimants(Fault):
    """A second process claims the name of a node that runs: it is refused, and the node is not disturbed."""

    name, part, hold_s = "hub-two-claimants", "hub", 0.0

    def inject(self) -> None:
        part = self.site.parts["always"]
        # With another folder: the history's lock is not what is meant here.
        machine = self.site.folder / "claimant"
        machine.mkdir(exist_ok=True)
        text = (self.site.folder / "rig" / "site.yaml").read_text()
        port = self.site.ports["always"]
        (machine / "site.yaml").write_text(text.replace(f"port: {port}", f"port: {self.site.ports['interval'] + 1}", 1))
        command = [*part.command[:-1], str(machine / "site.yaml")]
        self.pid = self._pid()
        self.done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, **part.environment}, check=False
        )

    def _pid(self) -> int:
        process = self.site.parts["always"].process
        return process.pid if process else 0

    def violations(self) -> list[str]:
        wrong = []
        if self.done.returncode != 2 or "taken" not in self.done.stderr:
            wrong.append(f"the second claimant ended with {self.done.returncode}: {self.done.stderr[-200:]}")
        if self._pid() != self.pid:
            wrong.append("the first claimant was ended")
        return wrong
