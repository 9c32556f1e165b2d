"""Pages of the console in a browser, and what tests look at."""

import time

WAIT_MS = 60_000

VIOLATIONS = """async () => (await axe.run(document)).violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html }) => html)])"""


def until(page, holds):
    """Wait until a condition holds, while the page continues to run."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def touch(width, height, **more):
    return {"viewport": {"width": width, "height": height}, "has_touch": True, "is_mobile": True, **more}
