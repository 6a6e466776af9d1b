"""What is asked of every page that is open in a window of a browser."""

import json


def downloaded_marks(window):
    """Return the lines of the file of marks that a page offers, without the first, which says what it is."""
    with window.expect_download() as download:
        window.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "marks.jsonl"
    head, *lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert head == {"retrain_marks": 1, "image_dir": "photos"}
    return lines


def check_that_it_can_be_read_aloud(window):
    """Expect headings in their order, and words for each picture, table and column."""
    levels = [int(tag[1]) for tag in window.locator("h1,h2,h3,h4").evaluate_all("all => all.map(one => one.tagName)")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    silent = "all => all.filter(one => !(one.getAttribute('aria-label') || one.getAttribute('aria-hidden'))).length"
    assert window.locator("svg").evaluate_all(silent) == 0
    assert window.locator("table:not(:has(caption)), th:not([scope])").count() == 0
    assert window.locator("html").get_attribute("lang") == "en"
