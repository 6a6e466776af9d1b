"""Looks at a page of findings in a browser without a screen, where there is one."""

import pytest
from doctor.findings_page import CLASSES, of_all_kinds, page_of, photos_in
from windows import check_that_it_can_be_read_aloud, downloaded_marks

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(opened_file, tmp_path):
    """Return what opens a page of all kinds of findings, in a window with some settings."""

    def look(classes=CLASSES, **settings):
        photos = photos_in(tmp_path / "photos", classes)
        file = tmp_path / "check_images.html"
        file.write_bytes(page_of(tmp_path, of_all_kinds(*classes), photos))
        return opened_file(file, **settings)

    return look


def test_proposals_are_taken_over_and_single_ones_taken_back(opened):
    window = opened()
    assert not window.get_by_role("complementary", name="Marks").is_visible()
    window.get_by_role("button", name="Mark these 2 as proposed").click()
    relabel = {"path": "daisy/3.png", "mark": "relabel", "class": "rose"}
    assert downloaded_marks(window) == [{**relabel, "path": "daisy/2.png"}, relabel]
    window.locator("article.card").nth(0).locator("button[value=relabel]").click()
    window.locator("#finding-7 button[value=remove]").nth(1).click()
    assert downloaded_marks(window) == [relabel, {"path": "daisy/1.png", "mark": "remove"}]
    assert window.complaints == []


def test_without_scripts_all_is_there_but_the_buttons(opened):
    window = opened(java_script_enabled=False)
    assert window.locator("section").count() == 8
    assert window.locator("#finding-2 svg.thumb use").first.is_visible()
    assert not window.locator(".take, .js-only").first.is_visible()
    window.get_by_role("link", name="Photos that are there more than once").click()
    assert window.url.endswith("#finding-7")


@pytest.mark.parametrize("classes", [CLASSES, ("d" * 200, "a rose " * 30)])
@pytest.mark.parametrize("width", [390, 700, 1280])
def test_no_window_scrolls_sideways(opened, width, classes):
    window = opened(classes, viewport={"width": width, "height": 844})
    assert window.evaluate("document.documentElement.scrollWidth") == width
    window.locator("article.card button[value=relabel]").first.click()
    assert window.evaluate("document.documentElement.scrollWidth") == width


def test_hostile_names_run_nothing(opened):
    window = opened(('"><img src=x onerror="window.hit=1">', "{{ 7*7 }}\udce9' onmouseover='window.hit=2"))
    window.get_by_role("button", name="Mark these 2 as proposed").click()
    for place in window.locator("svg.thumb, figcaption, h2, h3").all()[:30]:
        place.dispatch_event("mouseover")
    assert window.evaluate("window.hit") is None
    assert window.complaints == []
    assert [line["class"] for line in downloaded_marks(window)] == ["{{ 7*7 }}\udce9' onmouseover='window.hit=2"] * 2


def test_headings_are_in_order_pictures_have_words_and_are_drawn(opened):
    window = opened()
    check_that_it_can_be_read_aloud(window)
    one, other = (window.locator("#finding-1 svg.thumb").nth(number).screenshot() for number in (0, 1))
    assert one != other


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_how_bad_a_finding_is_can_be_read_in_light_and_in_the_dark(opened, scheme):
    window = opened(color_scheme=scheme)
    script = "one => [getComputedStyle(one).color, getComputedStyle(document.body).backgroundColor]"

    def luminance(colour):
        levels = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for grade in ("serious", "moderate", "minor"):
        dark, light = sorted(map(luminance, window.locator(f"h2 .grade.{grade}").first.evaluate(script)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, 1.4.3
