"""A real Apache Kafka for tests: one broker in KRaft mode, from the jars that pom.xml names."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

from sisock.testing.fixtures import free_ports

POM = Path(__file__).parent / "pom.xml"
BOOT_S = 60.0


class Broker:
    """A broker in a folder; it can be killed and started again on the same port, with what it had."""

    def __init__(self, folder: Path, jars: Path) -> None:
        # It starts sooner with the quick compiler alone.
        self.folder, self._java = folder, ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        self.port, controller = free_ports(2)
        self.servers = f"127.0.0.1:{self.port}"
        self._process = None
        folder.mkdir()
        self.properties = folder / "server.properties"
        self.properties.write_text(f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://{self.servers},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{self.servers}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder / "log"}
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
""")
        # One that began with a hyphen would be taken for an option.
        cluster = base64.urlsafe_b64encode(b"K" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        settings = ["-t", cluster, "-c", str(self.properties)]
        command = [*self._java, "kafka.tools.StorageTool", "format", "--standalone", *settings]
        subprocess.run(command, check=True, capture_output=True, timeout=BOOT_S)

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        with (self.folder / "out").open("ab") as out:
            command = [*self._java, "kafka.Kafka", str(self.properties)]
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + BOOT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self.folder / "out").read_text()[-2000:]
            assert time.monotonic() < deadline, "the broker did not come up"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, as ``kill -9`` does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self.kill()


def missing() -> str | None:
    """Return what a broker needs and is not here; None when it can run."""
    return next((f"{program} is not installed" for program in ("java", "mvn") if shutil.which(program) is None), None)


def fetched_jars(folder: Path) -> Path:
    """Have Maven put the jars into a folder."""
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder
