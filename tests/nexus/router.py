"""A WAMP router that is not Crossbar: nexus, built from main.go by the fixture."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from sisock.access import GATEWAY
from sisock.site import ROLES
from sisock.testing.fixtures import free_ports

_SOURCE = Path(__file__).parent


def go():
    """Return the Go command; None where there is none."""
    return shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")


def build(folder):
    """Return the program, built in a folder."""
    program = folder / "nexus"
    # Compiled packages are kept by Go: only the first build of a machine takes long.
    subprocess.run([go(), "build", "-o", program, "."], cwd=_SOURCE, check=True, timeout=900)
    return program


class Nexus:
    """A nexus on ports of its own; it can be stopped, and started again with other gaps in what it offers."""

    def __init__(self, program):
        self._program = program
        self.port, self.rawsocket_port = free_ports(2)
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self.rawsocket_url = f"rs://127.0.0.1:{self.rawsocket_port}"
        self._process = None

    def start(self, *lacks):
        settings = {
            "websocket": f"127.0.0.1:{self.port}",
            "rawsocket": f"127.0.0.1:{self.rawsocket_port}",
            "realm": "test_realm",
            "base_uri": "org.simonsobservatory",
            "accounts": {role: {"secret": f"secret of the {role}", "role": role} for role in (*ROLES, GATEWAY)},
            "lacks": lacks,
        }
        self._process = subprocess.Popen([self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process.stdin.write(json.dumps(settings) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "listening\n"

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def write_site(self, folder, more=""):
        """Write the site file and the secrets of a site on this router, and return the site file."""
        site, secrets = folder / "site.yaml", folder / "secrets.yaml"
        site.write_text(f"router: {{url: '{self.url}'}}\n{more}")
        secrets.touch(mode=0o600)
        accounts = [f"{role}: {{user: {role}, secret: secret of the {role}}}\n" for role in ROLES]
        secrets.write_text("".join(accounts) + f"{GATEWAY}: {{secret: secret of the {GATEWAY}}}\n")
        return site
