"""The console's view of tables, in a real browser: sorted, filtered, followed, with rows beyond what is visible."""

import pytest

from sisock.node import Node
from sisock.testing.serving import Serving
from tests.site.pages import VIOLATIONS, touch, until

pytestmark = pytest.mark.xdist_group("console")
COLUMNS = {"time": "time", "energy": "number", "count": "integer", "target": "text", "about": "json"}
REFUSED = ["400 (Bad Request)"]


def shots(start, count):
    numbers = range(start, start + count)
    return {
        "time": [1_700_000_000.0 + i for i in numbers],
        "energy": [float("nan") if i == 3 else (i * 7) % 1500 for i in numbers],
        "count": [2**60 + 1 if i == 5 else i for i in numbers],
        "target": [f"gold <b>{i % 5}</b>" for i in numbers],
        "about": [{"i": i} for i in numbers],
    }


@pytest.fixture
def node(sisock_router, unique):
    node = Node(unique, "a laser", [])
    serving = Serving(sisock_router.access("server"))
    serving.serve(node)
    node.context.table("shots", COLUMNS).append(shots(0, 1500))
    yield node
    serving.stop()


def shown(page, console, node, **how):
    page = page(f"{console.url}/#node={node.name}", **how, expects=REFUSED)
    if how:
        page.locator('nav button[data-to="control"]').tap()
    page.locator("summary", has_text="Tables").click()
    page.get_by_label("Table", exact=True).select_option("shots")
    page.get_by_text("1000 rows, and older ones.").wait_for()
    return page


def numbers(page):
    return [int(each) for each in page.locator(".rows tbody td:first-child button").all_inner_texts()]


def test_rows_of_a_table_are_sorted_filtered_and_followed(console, node, opened):
    page = shown(opened, console, node)
    box = page.locator(".rows")
    assert numbers(page)[:2] == [1499, 1498]
    assert len(numbers(page)) < 100  # others are not in the page
    assert box.locator("table").get_attribute("aria-rowcount") == "1001"
    page.get_by_role("button", name="Older rows").click()
    page.get_by_text("1500 rows.").wait_for()
    box.evaluate("(box) => box.scrollTo(0, box.scrollHeight)")
    until(page, lambda: numbers(page)[-1] == 0)
    assert box.locator("tr", has_text="≈").count() == 1  # an integer that a browser cannot have exactly
    box.evaluate("(box) => box.scrollTo(0, 0)")
    energy = box.locator("th", has_text="energy")
    energy.get_by_role("button").click()
    until(page, lambda: numbers(page)[0] == 0)
    energy.get_by_role("button").click()
    assert energy.get_attribute("aria-sort") == "descending"
    until(page, lambda: numbers(page)[0] == 857)  # 857 * 7 % 1500 is 1499
    page.get_by_text("1500 rows, sorted among these.").wait_for()
    energy.get_by_role("button").click()
    condition = page.get_by_label("Condition on shots")
    condition.fill("enery < 10")
    page.keyboard.press("Enter")
    page.locator(".error", has_text="energy").first.wait_for()
    assert condition.input_value() == "enery < 10"
    node.context.table("shots", COLUMNS).append(shots(1500, 1))
    page.get_by_text("1501 rows.").wait_for()
    assert page.locator(".error", has_text="energy").first.is_visible()  # it outlives what is followed
    condition.fill("energy < 10")
    page.keyboard.press("Enter")
    page.get_by_text("11 rows.").wait_for()
    condition.fill("target like *0*")
    page.keyboard.press("Enter")
    page.get_by_text("3 rows.", exact=True).wait_for()
    assert sorted(numbers(page)) == sorted(i for i in range(1501) if i != 3 and i * 7 % 1500 < 10 and i % 5 == 0)
    # New rows that fulfil the conditions come by themselves.
    node.context.table("shots", COLUMNS).append(shots(1505, 1) | {"energy": [2.0]})
    page.get_by_text("4 rows.", exact=True).wait_for()
    page.get_by_role("button", name="Row 1501 in full").click()
    page.locator(".answer dl").get_by_text("gold <b>0</b>").wait_for()
    page.get_by_role("button", name="Remove energy < 10").click()
    page.get_by_text("302 rows.", exact=True).wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_violation_in_a_table(console, node, axe, opened, width, scheme):
    how = {} if width > 1000 else touch(width, 844, color_scheme=scheme)
    page = shown(opened, console, node, **how)
    page.get_by_label("Condition on shots").fill("energy < 10")
    page.keyboard.press("Enter")
    page.get_by_text("10 rows.").wait_for()
    page.locator(".rows td button").first.click()
    page.locator(".answer > dl").wait_for()
    page.evaluate(axe)
    assert page.evaluate(VIOLATIONS) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
