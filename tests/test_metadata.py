import pytest

from retrain import metadata
from retrain.metadata import Metadata


def test_what_a_later_version_wrote_is_read():
    told = Metadata.from_json('{"labels": ["a"], "colour_of_the_sky": "blue"}')
    assert told == Metadata(labels=("a",))
    for text in ("[]", "{}", '{"labels": 3}'):
        with pytest.raises(ValueError, match="no metadata of retrain"):
            Metadata.from_json(text)


def test_labels_come_back_one_a_line(tmp_path):
    labels = ["Rose-A", "тюльпан", "it's", "two\nlines"]
    metadata.write_labels(tmp_path / "labels.txt", labels)
    assert metadata.read_labels(tmp_path / "labels.txt") == ("Rose-A", "тюльпан", "it's", "two lines")
