"""Looks at the page in a browser without a screen, where there is one."""

import json

import pytest
from pages import page, small
from windows import check_that_it_can_be_read_aloud, downloaded_marks

pytestmark = pytest.mark.slow
HOSTILE = (
    "<script>window.hit=1</script>",
    '"><img src=x onerror="window.hit=2"><a href="',
    "{{ 7*7 }}\udce9' onmouseover='window.hit=3",
)


@pytest.fixture
def opened(opened_file, tmp_path):
    """Return what opens a page of a report and its evidence, in a window with some settings."""

    def look(report, evidence, **settings):
        file = tmp_path / "report.html"
        file.write_bytes(page(tmp_path, report, evidence))
        return opened_file(file, **settings)

    return look


@pytest.mark.parametrize("javascript", [True, False])
def test_a_cell_opens_its_photos(opened, javascript):
    window = opened(*small(), java_script_enabled=javascript)
    group = window.locator("#cell-0-1")
    assert not group.is_visible()
    window.get_by_role("link", name="daisy taken for rose: 2 photos").click()
    assert group.is_visible()
    labels = group.get_by_role("img").evaluate_all if javascript else None
    assert group.locator("svg.thumb").count() == 2
    assert group.locator("svg.thumb use").first.is_visible()
    assert not window.locator("#cell-1-2").is_visible()
    if javascript:
        assert labels("all => all.map(one => one.getAttribute('aria-label'))") == [
            "daisy, daisy/0 a#b.jpg",
            "daisy, daisy/1 a#b.jpg",
        ]
        window.keyboard.press("Escape")
        assert not group.is_visible()


def test_marks_download_as_lines_of_json(opened):
    hostile = "da\udce9<b>", "rose", "tulip"
    window = opened(*small(hostile))
    tray = window.get_by_role("complementary", name="Marks")
    assert not tray.is_visible()
    cards = window.locator("article.card")
    cards.nth(0).locator(".said button[value=remove]").click()
    cards.nth(1).locator(".said button[value=relabel]").click()
    cards.nth(2).locator(".said button[value=relabel]").click()
    cards.nth(2).locator(".said select").select_option("rose" if "tulip/" in cards.nth(2).inner_text() else "tulip")
    cards.nth(3).locator(".said button[value=keep]").click()
    cards.nth(3).locator(".near button[value=remove]").nth(1).click()
    cards.nth(3).locator(".said button[value=keep]").click()  # again takes the mark away
    assert "4 photos marked" in tray.inner_text()
    report, evidence = small(hostile)
    paths = [row.path for row in evidence.wrong]
    other = "rose" if evidence.wrong[2].true == "tulip" else "tulip"
    assert downloaded_marks(window) == [
        {"path": paths[0], "mark": "remove"},
        {"path": paths[1], "mark": "relabel", "class": evidence.wrong[1].scores[0][0]},
        {"path": paths[2], "mark": "relabel", "class": other},
        {"path": "rose/train.jpg", "mark": "remove"},
    ]
    window.reload()
    assert "4 photos marked" in tray.inner_text()  # no mark is lost with the window


def test_a_photo_is_offered_the_class_that_it_was_taken_for_wherever_it_is_marked(opened):
    window = opened(*small())
    for cell, guess in (("#cell-2-0", "daisy"), ("#cell-1-2", "tulip"), ("#cell-2-2", "daisy")):  # of one: the first
        window.goto(f"{window.url.partition('#')[0]}{cell}")
        photo = window.locator(f"{cell} .marks").first
        photo.locator("button[value=relabel]").click()
        assert photo.locator("select").input_value() == guess


def test_marks_name_classes_as_their_folders_are_spelt(opened):
    names = "da\udce9<b>", "ro\u202ese", 'tu\nlip "'
    report, evidence = small(names)
    window = opened(report, evidence)
    cards = window.locator("article.card")
    for number in range(cards.count()):
        cards.nth(number).locator(".said button[value=relabel]").click()
    for row, choices in zip(evidence.wrong, cards.locator(".said select").all(), strict=True):
        offered = json.loads(choices.evaluate("one => JSON.stringify([...one.options].map(each => each.value))"))
        assert offered == [name for name in names if name != row.true]
    assert [line["class"] for line in downloaded_marks(window)] == [row.scores[0][0] for row in evidence.wrong]


def test_a_photo_that_is_shown_twice_has_one_mark(opened):
    window = opened(*small())
    near = window.locator(".near button[value=remove][aria-label='Remove: rose/train.jpg']")
    assert near.count() == 4
    near.nth(0).click()
    assert near.evaluate_all("all => all.map(one => one.getAttribute('aria-pressed'))") == ["true"] * 4


def colours(window):
    script = "one => [getComputedStyle(one).backgroundColor, getComputedStyle(one).color]"
    return window.locator("body").evaluate(script)


def test_the_system_chooses_light_or_dark(opened):
    light = colours(opened(*small(), color_scheme="light"))
    dark = colours(opened(*small(), color_scheme="dark"))

    def brightness(colour):
        return sum(int(part) for part in colour[4:-1].split(","))

    assert brightness(light[0]) > 600 > 300 > brightness(light[1])
    assert brightness(dark[0]) < 150 < 600 < brightness(dark[1])


@pytest.mark.parametrize("names", [("daisy", "rose", "tulip"), ("d" * 200, "a rose " * 30, "tulip"), HOSTILE])
def test_a_phone_never_scrolls_sideways(opened, names):
    window = opened(*small(names), viewport={"width": 390, "height": 844})
    assert window.evaluate("document.documentElement.scrollWidth") == 390
    window.locator("article.card button[value=relabel]").first.click()
    assert window.evaluate("document.documentElement.scrollWidth") == 390


def test_on_paper_the_page_is_light_and_as_wide_as_the_paper(opened):
    window = opened(*small(), viewport={"width": 700, "height": 1000}, color_scheme="dark")  # A4 within its margins
    window.emulate_media(media="print", color_scheme="dark")
    assert colours(window)[0] == "rgb(255, 255, 255)"
    assert window.evaluate("document.documentElement.scrollWidth") == 700
    assert not window.locator(".marks, nav").first.is_visible()


def test_hostile_names_run_nothing_and_nothing_is_asked_of_a_network(opened):
    window = opened(*small(HOSTILE, notes=[HOSTILE[0]], rejected={HOSTILE[1]: HOSTILE[2]}))
    window.locator("article.card button[value=relabel]").first.click()
    window.locator("td a").first.click()
    for place in window.locator("svg.thumb, figcaption, th").all()[:30]:
        place.dispatch_event("mouseover")
    assert window.evaluate("window.hit") is None
    assert window.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in window.asked)
    assert "49" not in window.locator("#classes").inner_text().split("{{")[0]


def test_headings_are_in_order_and_all_pictures_have_words(opened):
    window = opened(*small())
    check_that_it_can_be_read_aloud(window)


def test_a_table_sorts_by_a_column(opened):
    window = opened(*small())
    found = window.locator("#classes th button", has_text="found")
    names = window.locator("#classes tbody th")
    found.click()
    assert names.all_inner_texts() == ["daisy", "rose", "tulip"]
    found.click()
    assert names.all_inner_texts()[-1] == "daisy"


def test_pictures_are_drawn(opened):
    """Each thumbnail shows the colour of its photo, wherever it is used."""
    window = opened(*small(), viewport={"width": 1200, "height": 900})
    tiles = window.locator("ul.samples svg.thumb")
    assert tiles.count() == 6
    shots = {tiles.nth(number).screenshot() for number in range(6)}
    assert len(shots) == 6
