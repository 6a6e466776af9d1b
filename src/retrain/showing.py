"""What the report of a run shows of single photos: gathered from the store, kept for the next run, and never fatal."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from retrain.candidates import Candidate
from retrain.data.split import Split
from retrain.data.variants import Variant
from retrain.errors import RetrainError
from retrain.evaluation import attention, looking, neighbours, thumbnails
from retrain.evaluation.attention import Direction
from retrain.evaluation.evidence import Evidence, Neighbour, PhotoEvidence
from retrain.evaluation.kept import Kept, key_of
from retrain.evaluation.looking import Abilities, Looker
from retrain.evaluation.neighbours import Nearest
from retrain.evaluation.report import TestScores
from retrain.evaluation.selection import MISCLASSIFIED, RIGHT, Selection, best_scores, select

_MOST_BYTES = 3_400_000  # of all pictures: a page has a third more, and should not exceed 5 MB
_COMPARED = 2**20  # training photos that are looked through for the nearest, at most: minutes, on a slow disk
_ATTENTION = "//attention/"  # how the keys of such pictures begin, as no path below a folder does
# What may go wrong with a photo, with the cache or in an engine: then that piece is missing.
_FAILURES = (RetrainError, OSError, ValueError, RuntimeError, MemoryError)
Pictures = dict[str, bytes]


def evidence_of(chosen: Candidate, rows: np.ndarray, test: TestScores) -> Evidence:
    """Return what a report shows of the test photos, whose indices among all variants are `rows`, int64 [n].

    Whatever cannot be computed is missing from it.
    """
    gathering = _Gathering(chosen, rows, test)
    found = _Found()
    with suppress(*_FAILURES):
        gathering.fill(found)
    with suppress(*_FAILURES):
        gathering.kept.write()
    return gathering.evidence(found)


@dataclass
class _Found:
    """What was gathered so far, by the places of photos among the test scores."""

    thumbnails: Pictures = field(default_factory=dict)  # by the paths of photos
    attention: dict[int, bytes] = field(default_factory=dict)
    neighbours: dict[int, list[Neighbour]] = field(default_factory=dict)
    how: str = ""


@dataclass(frozen=True)
class _Gathering:
    chosen: Candidate
    rows: np.ndarray
    test: TestScores

    @cached_property
    def selection(self) -> Selection:
        return select(self.test)

    @cached_property
    def kept(self) -> Kept:
        return Kept(self.chosen.prepared.folder)

    @cached_property
    def looker(self) -> Looker | None:
        """Return the network that is exported, as it can be looked into."""
        return Looker.of(self.chosen.prepared.extractor, self.chosen.artefacts.runner)

    @cached_property
    def training(self) -> np.ndarray:
        """Return one variant of each training photo, int64 [N]: of distorted copies, the first; of millions, some."""
        members = self.chosen.prepared.variants.members[Split.TRAINING]
        photos = members[:: len(members) // max(1, sum(self.chosen.prepared.dataset.counts(Split.TRAINING)))]
        return photos[np.arange(_COMPARED) * len(photos) // _COMPARED] if len(photos) > _COMPARED else photos

    def fill(self, found: _Found) -> None:
        """Gather everything, as far as it can be had."""
        selection = self.selection
        places = list(dict.fromkeys([*selection.wrong, *selection.right]))
        near: dict[int, list[tuple[int, Neighbour]]] = {}
        with suppress(*_FAILURES):
            near = self._neighbours(selection.examined)
        found.neighbours = {place: [each for _, each in pairs] for place, pairs in near.items()}
        shown = [int(self.rows[place]) for place in places]
        shown += [row for pairs in near.values() for row, _ in pairs]
        keys = self._keys(list(dict.fromkeys(shown)))
        found.thumbnails = self._thumbnails(keys)
        if self.looker:
            with suppress(*_FAILURES):
                self._look(self.looker, keys, found)

    def evidence(self, found: _Found) -> Evidence:
        """Return what was gathered, within the bound of all pictures."""
        album, selection = _Album(), self.selection
        left_out, unreadable, right = Counter(selection.left_out), 0, set(selection.right)
        cards: dict[int, PhotoEvidence] = {}
        for place in dict.fromkeys([*selection.examined, *selection.wrong]):
            thumbnail = found.thumbnails.get(self._path(place))
            if thumbnail is None:
                unreadable += 1
            elif album.add(self._path(place), thumbnail):
                cards[place] = self._card(place, found, album)
            else:
                left_out[RIGHT if place in right else MISCLASSIFIED] += 1
        return Evidence(
            [cards[place] for place in selection.wrong if place in cards],
            [cards[place] for place in selection.right if place in cards],
            self._cells(cards),
            album.pictures,
            left_out,
            found.how if any(card.attention for card in cards.values()) else "",
            unreadable,
        )

    def _card(self, place: int, found: _Found, album: "_Album") -> PhotoEvidence:
        """Return what is shown of a photo, with its pictures put into the album."""
        names, label = self.chosen.artefacts.class_names, int(self.test.labels[place])
        key = _ATTENTION + self._path(place)
        has_attention = place in found.attention and album.add(key, found.attention[place])
        near = found.neighbours.get(place, [])
        for each in near:
            if each.path in found.thumbnails:
                album.add(each.path, found.thumbnails[each.path])
        return PhotoEvidence(
            self._path(place),
            names[label],
            best_scores(names, self.test.probabilities[place], label),
            key if has_attention else None,
            near,
        )

    def _cells(self, places: Iterable[int]) -> dict[tuple[int, int], list[str]]:
        cells: dict[tuple[int, int], list[str]] = {}
        for place in places:
            cell = int(self.test.labels[place]), int(self.test.probabilities[place].argmax())
            cells.setdefault(cell, []).append(self._path(place))
        return dict(sorted(cells.items(), key=lambda item: (item[0][0] == item[0][1], -len(item[1]), item[0])))

    def _path(self, place: int) -> str:
        return self.test.paths[place]

    def _keys(self, rows: Sequence[int]) -> dict[str, bytes]:
        """Return the store's keys, which stand for the contents of photos, by the paths of variants."""
        prepared = self.chosen.prepared
        known = prepared.read.key_of_each(np.array(rows, np.int64))
        keys = {}
        for row, key in zip(rows, known, strict=True):
            variant = prepared.variants.rows[row]
            key = key or next(iter(prepared.extractor.keys([Variant(variant.path)])), None)
            if key is not None:
                keys[variant.path] = key
        return keys

    def _thumbnails(self, keys: Mapping[str, bytes]) -> Pictures:
        return thumbnails.through(self.kept, self.chosen.prepared.dataset.image_dir, keys)

    def _neighbours(self, places: Sequence[int]) -> dict[int, list[tuple[int, Neighbour]]]:
        """Return the nearest training photos of some places, each with its index among all variants.

        Of a network that was fine-tuned, they are those of the features before, which are stored.
        """
        prepared, rows = self.chosen.prepared, self.training
        if not len(rows) or not places:
            return {}
        vectors = prepared.read(self.rows[list(places)])
        among = key_of(b"neighbours 1", prepared.read.checksums(rows).tobytes())
        kept = self.kept.through(
            [key_of(among, vector.tobytes()) for vector in vectors],
            lambda todo: neighbours.packed(neighbours.nearest(prepared.read, rows, vectors[todo])),
        )
        found: Nearest = neighbours.unpacked([each for each in kept if each is not None])
        names, labels = prepared.dataset.class_names, prepared.variants.labels
        near = {}
        for place, nearest, similarity in zip(places, rows[found.places].tolist(), found.similarity, strict=True):
            near[place] = [
                (row, Neighbour(prepared.variants.rows[row].path, names[labels[row]], round(float(cosine), 4)))
                for row, cosine in zip(nearest, similarity, strict=True)
            ]
        return near

    def _look(self, looker: Looker, keys: Mapping[str, bytes], found: _Found) -> None:
        """Add pictures of where the network looked, to as many of the examined photos as it is quick enough for."""
        abilities, examined = looker.abilities(self.kept), self.selection.examined
        places = [place for place in examined if self._path(place) in found.thumbnails][: abilities.photos]
        asked = _Asked(self, looker, places, keys)
        made = self.kept.through(asked.keys(abilities), lambda todo: asked.pictures(todo, found.thumbnails, abilities))
        found.attention = {place: data for place, data in zip(places, made, strict=True) if data is not None}
        if not abilities.has_maps:
            found.how = attention.OCCLUSION
        else:
            found.how = attention.GRADIENTS if len(self.chosen.head.layers) > 1 else attention.MAPS


@dataclass(frozen=True)
class _Asked:
    """Photos at some places, about whose predicted class a network is asked."""

    gathering: _Gathering
    looker: Looker
    places: Sequence[int]
    photos: Mapping[str, bytes]  # keys of their contents by their paths

    @cached_property
    def _paths(self) -> list[str]:
        return [self.gathering.test.paths[place] for place in self.places]

    @cached_property
    def _classes(self) -> list[int]:
        return [int(self.gathering.test.probabilities[place].argmax()) for place in self.places]

    @cached_property
    def _directions(self) -> list[Direction]:
        chosen, rows = self.gathering.chosen, self.gathering.rows[list(self.places)]
        first, *hidden = chosen.head.layers
        # What a single layer says is the same everywhere; a fine-tuned network computes its bottlenecks at each read.
        vectors = chosen.read_exactly(rows) if hidden else np.zeros((len(rows), len(first.weights)), np.float32)
        pairs = zip(vectors, self._classes, strict=True)
        return [Direction.of(chosen.head, vector, class_id) for vector, class_id in pairs]

    def keys(self, abilities: Abilities) -> list[bytes]:
        """Return by what the picture of each place is kept: photo, network, how it is fitted in, and head."""
        network = key_of(attention.RECIPE, self.looker.checksum, repr(self.looker.spec).encode())
        photos = [self.photos[path] for path in self._paths]
        if abilities.has_maps:
            asked = [key_of(each.weights.tobytes(), repr(each.offset).encode()) for each in self._directions]
        else:
            layers = self.gathering.chosen.head.layers
            head = key_of(*(array.tobytes() for layer in layers for array in (layer.weights, layer.biases)))
            asked = [key_of(head, str(class_id).encode()) for class_id in self._classes]
        return [key_of(network, photo, each) for photo, each in zip(photos, asked, strict=True)]

    def pictures(self, todo: Sequence[int], drawn: Pictures, abilities: Abilities) -> Iterator[bytes | None]:
        """Yield the pictures of some of the photos, by their numbers; `drawn` are their thumbnails."""
        said = self._by_maps(todo) if abilities.has_maps else self._by_covering(todo)
        for number, each in zip(todo, said, strict=True):
            thumbnail = drawn[self._paths[number]]
            yield None if each is None else attention.picture(thumbnail, each, self.looker.spec)

    def _by_maps(self, todo: Sequence[int]) -> Iterator[np.ndarray | None]:
        paths = [self._paths[number] for number in todo]

        def make(missing: list[int]) -> Iterator[bytes | None]:
            for maps in self.looker.feature_maps([paths[number] for number in missing]):
                yield None if maps is None else looking.packed(maps)

        keys = [key_of(b"maps 1", self.looker.checksum, self.photos[path]) for path in paths]
        for number, maps in zip(todo, self.gathering.kept.through(keys, make), strict=True):
            yield None if maps is None else self._directions[number].on(looking.unpacked(maps))

    def _by_covering(self, todo: Sequence[int]) -> Iterator[np.ndarray | None]:
        head, covered = self.gathering.chosen.head, self.looker.bottlenecks_of_covered([self._paths[n] for n in todo])
        for number, vectors in zip(todo, covered, strict=True):
            yield None if vectors is None else attention.costs(head, vectors, self._classes[number])


@dataclass
class _Album:
    """Pictures by their keys, as many as there is room for."""

    pictures: Pictures = field(default_factory=dict)
    size: int = 0  # in bytes

    def add(self, key: str, picture: bytes) -> bool:
        """Add a picture, unless it is there already, and return whether there was room."""
        if key in self.pictures:
            return True
        if self.size + len(picture) > _MOST_BYTES:
            return False
        self.pictures[key] = picture
        self.size += len(picture)
        return True
