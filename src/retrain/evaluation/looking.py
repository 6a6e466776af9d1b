"""Runs a network to see where it looks: its last feature maps, or its bottlenecks of photos with covered squares."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from retrain import workers
from retrain.backbones.loading import checksum_of
from retrain.backbones.runner import BackboneRunner
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.photos import Photo, read_ahead
from retrain.errors import ImageError
from retrain.evaluation import attention
from retrain.evaluation.kept import Kept
from retrain.files import MODEL_BYTES, read_regular
from retrain.formats.litert import maps
from retrain.formats.litert.model import Runner
from retrain.preprocessing import InputSpec

_MULTIPLICATIONS = 3e10  # in all photos of a report: half a second on two cores
_LEAST, _MOST_COVERED = 3, 12  # photos
_WAITING = 64
_Read = tuple[str, Callable[[], Photo]]  # a path, and what reads the photo


@dataclass(frozen=True)
class Abilities:
    """What a network can be asked: whether it has feature maps whose mean it gives, and of how many photos."""

    has_maps: bool
    photos: int


@dataclass(frozen=True)
class Looker:
    """A network as a LiteRT `model`, which is looked into, and what makes the pixels that it takes."""

    model: Path
    extractor: FeatureExtractor

    @classmethod
    def of(cls, extractor: FeatureExtractor, runner: BackboneRunner) -> "Looker | None":
        """Return a network as it can be looked into, None where it is no LiteRT model; the runner has it in float32."""
        return cls(runner.model, replace(extractor, runner=runner)) if runner.model else None

    @cached_property
    def checksum(self) -> bytes:
        """Return what tells the network from others."""
        return checksum_of(self.model).encode()

    def abilities(self, kept: Kept) -> Abilities:
        """Return what it can be asked; reading the model is spared where it is kept."""
        (found,) = kept.through([b"abilities 2 " + self.checksum], lambda places: [self._abilities()])
        return Abilities(**json.loads(found or b""))

    def feature_maps(self, paths: Sequence[str]) -> Iterator[np.ndarray | None]:
        """Yield the feature maps float16 [h, w, C] of photos in this order, None for unreadable ones."""
        model, limits = maps.with_maps(self._content) or b"", np.finfo(np.float16)

        def open_worker() -> Callable[[_Read], np.ndarray | None]:
            run = Runner(model, self.spec)

            def work(read: _Read) -> np.ndarray | None:
                if (pixels := self._pixels(read)) is None:
                    return None
                values = run(pixels).clip(limits.min, limits.max)  # infinities would spoil sums
                return values.astype(np.float16).reshape(run.shape[1:])

            return work

        return self._map(open_worker, paths)

    def bottlenecks_of_covered(self, paths: Sequence[str]) -> Iterator[np.ndarray | None]:
        """Yield the bottlenecks of each photo as it is and as `attention.covered` makes it, float32 [n, D].

        None for unreadable photos.
        """

        def open_worker() -> Callable[[_Read], np.ndarray | None]:
            run = Runner(self._content, self.spec)

            def work(read: _Read) -> np.ndarray | None:
                if (pixels := self._pixels(read)) is None:
                    return None
                return np.stack([run(picture) for picture in (pixels, *attention.covered(pixels))])

            return work

        return self._map(open_worker, paths)

    @cached_property
    def _content(self) -> bytes:
        return read_regular(self.model, MODEL_BYTES)

    @property
    def spec(self) -> InputSpec:
        """Return how photos are fitted into the network."""
        return self.extractor.runner.backbone.input

    def _abilities(self) -> bytes:
        has_maps, cost = maps.with_maps(self._content) is not None, maps.multiplications(self._content)
        if not has_maps:
            cost *= 1 + attention.SQUARES**2
        photos = max(_LEAST, int(_MULTIPLICATIONS // max(1, cost)))
        return json.dumps({"has_maps": has_maps, "photos": photos if has_maps else min(photos, _MOST_COVERED)}).encode()

    def _pixels(self, read: _Read) -> np.ndarray | None:
        with suppress(ImageError):
            return self.extractor.pixel_maker(read[1]())("")
        return None

    def _map(
        self, open_worker: Callable[[], Callable[[_Read], np.ndarray | None]], paths: Sequence[str]
    ) -> Iterator[np.ndarray | None]:
        photos = read_ahead(self.extractor.image_dir, ((path, path) for path in paths))
        return workers.map_in_order(open_worker, photos, threads=min(workers.cores(), len(paths)), waiting=_WAITING)


def packed(found: np.ndarray) -> bytes:
    """Return feature maps as bytes to keep."""
    return np.array(found.shape, "<u2").tobytes() + found.astype("<f2").tobytes()


def unpacked(kept: bytes) -> np.ndarray:
    """Return feature maps, float16 [h, w, C], from what `packed` made of them."""
    return np.frombuffer(kept, "<f2", offset=6).reshape(np.frombuffer(kept, "<u2", 3).tolist())
