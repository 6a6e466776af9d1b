"""What a page of findings shows, and of which photos."""

import re

import pytest
from doctor.findings_page import of_all_kinds, page_of, photos_in

from retrain.doctor import laying_out
from retrain.doctor.findings import Finding, Kind
from retrain.evaluation.page.build import PAGE_BYTES


def shown(html):
    """Return the sections of a page as text, without tags, and the alternative texts of their pictures."""
    sections = re.findall(r'<section id="finding-\d+">(.*?)</section>', html, re.S)
    return [
        (" ".join(re.sub(r"<[^>]+>", " ", each).split()), re.findall(r'aria-label="([^"]+)"', each))
        for each in sections
    ]


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return shown(page_of(folder, of_all_kinds()).decode())


def test_a_copy_is_shown_beside_what_it_is_a_copy_of(sections):
    leaked, pictures = sections[0]
    assert pictures == ["2 photos that show the same", "daisy, daisy/0.png", "rose, rose/5.png"]
    assert "daisy/0.png for testing rose/5.png for training" in leaked
    superfluous, pictures = sections[6]
    assert pictures[1:] == ["daisy, daisy/0.png", "daisy, daisy/1.png"]  # what may stay comes first
    assert superfluous.endswith("daisy/0.png daisy/1.png proposed: remove")


def test_a_suspect_is_shown_with_the_class_that_it_looks_like_and_photos_of_it(sections):
    text, pictures = sections[1]
    assert pictures[:4] == ["daisy, daisy/2.png", *(f"rose, rose/{number}.png" for number in range(3))]
    assert "rose? lies in daisy daisy/2.png Its label is 99% likely to be wrong. proposed: move to rose" in text


def test_parts_and_classes_that_are_mixed_up_are_shown_apart(sections):
    merged, _ = sections[3]
    assert "daisy that look like rose daisy/4.png daisy/5.png rose that look like daisy rose/6.png rose/7.png" in merged
    split, _ = sections[4]
    assert "7 photos like these rose/0.png rose/1.png 5 photos like these rose/2.png rose/3.png" in split


def test_reasons_chances_and_counts_are_said(sections):
    assert "daisy/cut.png empty file proposed: remove" in sections[5][0]
    assert "Chance would do as well in 0.5% of cases at most." in sections[2][0]
    assert "class photos daisy 12 rose 1,200" in sections[7][0]


def test_headings_tell_findings_of_a_kind_apart_and_say_how_bad_they_are(sections):
    heads = [(laying_out.head_of(finding), laying_out.grade_of(finding)) for finding in of_all_kinds()]
    assert len({head for head, _ in heads}) == 8
    assert [grade for _, grade in heads] == ["serious"] * 3 + ["moderate"] * 3 + ["minor"] * 2
    assert all(text.startswith(f"{head} {grade} ") for (text, _), (head, grade) in zip(sections, heads, strict=True))
    figures = {
        "with_twice_the_photos": [0.9, 0.95],
        "classes": {"a": {"accuracy": 0.5, "with_twice_the_photos": [0.6, 1]}},
    }
    more = Finding(Kind.TOO_FEW, 0.1, "More.", figures=figures)
    assert laying_out.head_of(more) == "What more photos would do"
    advice = Finding(Kind.TOO_FEW, 0.1, "Next.", figures={"photograph": {"class": "a", "photos": 40}})
    assert laying_out.head_of(advice) == "What to photograph next"
    assert laying_out.table_of(more)[1] == ("a", "50.0%", "60.0% to 100.0%")


def test_tables_say_what_findings_say_of_classes():
    def row(**figures):
        return laying_out.table_of(Finding(Kind.TOO_FEW, 0.1, "Some.", figures=figures))[1:]

    said = {"place": "top left corner", "balanced_accuracy": 0.954, "balanced_accuracy_of_middle": 0.6}
    assert row(property="place", places={"a": said}) == [("a", "top left corner", "95%", "60%")]
    assert row(gain_of_twice_the_photos={"a": [-0.002, 0.014]}) == [("a", "-0.2% to +1.4%")]
    assert row(classes=["a", "b"], told_apart=0.5) == []
    assert row(counts={"a": 3}) == []


def test_the_same_findings_give_the_same_bytes_and_none_no_filler(tmp_path):
    photos = photos_in(tmp_path / "photos")
    assert page_of(tmp_path, of_all_kinds(), photos) == page_of(tmp_path, of_all_kinds(), photos)
    page = page_of(tmp_path, [], photos).decode()
    assert "nothing found" in page
    assert "<section" not in page


def test_a_page_of_very_many_findings_is_small_enough_to_mail(tmp_path):
    photos = photos_in(tmp_path / "photos")
    paths = [example.path for example in photos.dataset.examples]
    found = [Finding(Kind.OUTLIER, 0.5, "s", paths), *(Finding(Kind.BALANCE, 0.4, "s") for _ in range(149))]
    small = page_of(tmp_path, found, photos)
    assert "50 more findings are in the JSON file" in small.decode()
    assert "1 more finding is in the JSON file" in page_of(tmp_path, found[:101], photos).decode()
    found[0] = Finding(Kind.OUTLIER, 0.5, "s" * (PAGE_BYTES - len(small) + 5000), paths)
    page = page_of(tmp_path, found, photos)
    assert len(small) < len(page) <= PAGE_BYTES
    assert "Left out, to keep this page small" in page.decode()
