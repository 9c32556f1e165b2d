"""The console of the demo: what a newcomer sees of its rig."""

from sisock.site import load_site

WATERFALL = """() => document.getElementById("plot").data?.find(({ type }) => type === "heatmap")
  ?.z.some((row) => row.some((value) => value !== null))"""


def test_spectrum_of_the_rig_is_a_waterfall_and_its_events_are_a_table(demo, opened):
    gateway = load_site(demo.checkout / "examples" / "demo").gateway
    page = opened(f"{gateway.url}#node=rig&plot=spectrum::spectrum&plot=rig::beam")
    page.wait_for_function(WATERFALL)
    page.locator("#newest .sample").get_by_text("newest:").wait_for()
    page.locator("summary", has_text="Tables").click()
    page.get_by_label("Table", exact=True).select_option("events")
    page.get_by_label("Condition on events").fill("kind == load")
    page.keyboard.press("Enter")
    page.locator(".rows td", has_text="has started").wait_for(state="detached")
    page.locator(".rows td", has_text="the load").first.wait_for()  # every half a minute
