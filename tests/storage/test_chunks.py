import itertools

from retrain.storage.chunks import chunks, id_of
from retrain.storage.stamps import Stamp


def test_chunks_come_as_soon_as_they_are_full_and_keep_the_order():
    taken = []
    endless = (taken.append(number) or number for number in itertools.count())
    assert next(chunks(endless, 3)) == [0, 1, 2]
    assert taken == [0, 1, 2]
    assert list(chunks("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(chunks("", 2)) == []


def test_an_id_follows_from_settings_names_stamps_and_order():
    files = [("a", Stamp(1, 2, 3)), ("b", None), ("caf\udce9", Stamp(4, 5, 6))]
    others = [
        id_of(["other"], files),
        id_of(["one"], files[::-1]),
        id_of(["one"], files[:2]),
        id_of(["one"], [("a", Stamp(1, 2, 4)), *files[1:]]),
        id_of(["one"], [("a", None), *files[1:]]),
        id_of(["one"], [("A", Stamp(1, 2, 3)), *files[1:]]),
    ]
    assert id_of(["one"], iter(files)) not in others
    assert id_of(["one"], iter(files)) == id_of(["one"], files)
    assert len(set(others)) == len(others)
