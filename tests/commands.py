"""The command line in the process of a test, where it is not processes that matter: each takes a second to start."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from sisock.cli.app import main


def sisock(*args: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with an environment, and return what a process of it would have left."""
    command = ["sisock", *map(str, args)]
    stdout, stderr, status = StringIO(), StringIO(), 0
    with (
        chdir(cwd),
        patch.dict(os.environ, env or os.environ, clear=True),
        patch.object(sys, "argv", command),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return subprocess.CompletedProcess(command, status, stdout.getvalue(), stderr.getvalue())
