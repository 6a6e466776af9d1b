import csv
import io
import json
from pathlib import Path

import pytest

from retrain.inference.lines import CSV, JSON, count_errors, heading, lines_of
from retrain.inference.prediction import ClassScore, Prediction

NAMES = ('a",,,,b.png', '", "error": "', "caf\udce9.png", "two\nlines.png", "=1+1.png", ",,,,")
READ = [Prediction(Path(name), (ClassScore(name, 0.75), ClassScore("b", 0.25))) for name in NAMES]
UNSURE = [Prediction(Path(name)) for name in NAMES]
UNREADABLE = [Prediction(Path(name), error=f"not an image: {name}") for name in NAMES]


@pytest.mark.parametrize("form", [CSV, JSON])
def test_the_images_that_could_not_be_read_are_counted_whatever_their_names(form):
    for some in (READ, UNSURE, UNREADABLE, READ + UNREADABLE + UNSURE):
        text = heading(form) + "".join(lines_of(each, form) for each in some)
        assert count_errors(text.encode(), form) == (len(NAMES) if UNREADABLE[0] in some else 0)


def test_every_image_has_its_lines_in_either_form():
    rows = list(csv.DictReader(io.StringIO(heading(CSV) + "".join(lines_of(each, CSV) for each in READ + UNREADABLE))))
    assert [row["rank"] for row in rows] == ["1", "2"] * len(NAMES) + [""] * len(NAMES)
    objects = [json.loads(lines_of(each, JSON)) for each in READ + UNSURE + UNREADABLE]
    assert [each["image"] for each in objects] == list(NAMES) * 3
    assert objects[0]["labels"][1] == {"label": "b", "score": 0.25}
    assert objects[len(NAMES)] == {"image": NAMES[0], "labels": []}
    assert objects[-1] == {"image": NAMES[-1], "error": f"not an image: {NAMES[-1]}"}
