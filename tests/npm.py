"""Packages of npm that tests use, in the versions of a lock file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def without_node(why):
    """Skip a test, or fail it where Node.js is required."""
    if "node" in os.environ.get("SISOCK_TEST_REQUIRE", "").split(","):
        pytest.fail(f"SISOCK_TEST_REQUIRE asks for node, but {why}")
    pytest.skip(f"needs Node.js and npm: {why}")


def installed(name, folder):
    """Return a folder with the packages that ``package-lock.json`` of ``tests/<name>`` names."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            without_node(f"there is no {program}")
    for file in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).parent / name / file, folder)
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        without_node(f"npm ci failed: {done.stderr[-500:]}")
    return folder
