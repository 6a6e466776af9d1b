"""Chooses the engine that computes bottlenecks, and with it the store: found, remembered or measured."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrain.backbones import measuring, processor, quantized
from retrain.backbones.engines import AUTO, FLOAT32, INT8, LITERT, OPENVINO, TITLES, EngineRequest, is_installed
from retrain.backbones.loading import checksum_of
from retrain.backbones.measuring import Measurement
from retrain.backbones.runner import BackboneRunner
from retrain.backbones.sources import BackboneSource
from retrain.bottlenecks import left_overs
from retrain.bottlenecks import store as stores
from retrain.bottlenecks.computing import FeatureExtractor
from retrain.bottlenecks.store import Store
from retrain.data.split import Split
from retrain.data.variants import Variant, Variants
from retrain.errors import BackboneError
from retrain.terminal import Terminal

_WORTH_MEASURING = 300  # photos: for fewer, the start of another engine costs more than it can win
_MEASURED_ON = 8  # photos
_CALIBRATED_ON = 100  # photos
_LOOKED_UP = 16  # photos


def choose(
    request: EngineRequest,
    source: BackboneSource,
    variants: Variants,
    extractor: FeatureExtractor,
    terminal: Terminal,
) -> tuple[BackboneSource, BackboneRunner]:
    """Return the source that names the store of some variants, and the runner that fills it.

    A store that has most of the photos rules; then what was measured here before; then a measurement. Only the last
    two start an engine, and none does where nothing has to be computed.

    Args:
        request: What the user asks for.
        source: That of the backbone as LiteRT runs it in float32, whose folder it is kept in.
        variants: What bottlenecks are wanted of.
        extractor: Has the runner in float32: LiteRT, or TensorFlow on a GPU and for what LiteRT cannot run.
        terminal: Says what was chosen, and what other precisions would bring.

    Raises:
        BackboneError: The engine or the precision does not go with this backbone or this processor.
    """
    backbone = extractor.runner.backbone
    home, calibration = backbone.graph.parent, ""
    if request.precision == INT8:
        photos = _sample(variants, extractor, _CALIBRATED_ON)
        calibration = checksum_of(quantized.int8_model(backbone, source, photos, terminal.say))
    sources = {
        name: replace(source, engine=name, precision=request.precision, calibration=calibration)
        for name in request.names
    }
    for name in dict.fromkeys(each.folder_name for each in sources.values()):
        left_overs.merge(home.parent / name, extractor, terminal)
    ruling = _ruling(sources.values(), home.parent, variants, extractor)
    measured = measuring.remembered(home, request.precision)
    if ruling is None and measured is None and len(sources) > 1 and len(variants.rows) >= _WORTH_MEASURING:
        measured = _measure(request, extractor, _sample(variants, extractor, _MEASURED_ON), terminal)
    fitting = [name for name, each in sources.items() if ruling in (None, each.folder_name)]
    fitting = list(filter(is_installed, fitting)) or fitting  # a complete store needs no engine
    name = measured.choice if measured and measured.choice in fitting else fitting[0]
    if name == LITERT and request.precision == FLOAT32 and request.engine == AUTO:
        return sources[name], extractor.runner
    return sources[name], extractor.runner.in_engine(name, request.precision)


def _ruling(
    sources: Iterable[BackboneSource], folder: Path, variants: Variants, extractor: FeatureExtractor
) -> str | None:
    """Return the name of the store that has most of the variants, the first of equals; None where none has half.

    They are counted by their image folder, which costs next to nothing; that each is up to date is seen when it is
    used. Of an image folder that was moved, or copied, the contents of some photos are looked up.
    """
    counts: dict[str, int] = {}
    for name in dict.fromkeys(source.folder_name for source in sources):
        if not (folder / name / stores.INDEX).exists():
            continue
        with Store(folder / name, dimension=extractor.runner.backbone.dimension) as store:
            count = store.count(extractor.image_dir)
            if 2 * count < len(variants.rows):
                keys = extractor.keys(_spread(variants, np.arange(len(variants.rows)), _LOOKED_UP))
                count = len(variants.rows) * sum(store.find(key) is not None for key in keys) // max(1, len(keys))
            counts[name] = min(count, len(variants.rows))  # what it has of other settings does not count
    fullest = max(counts, key=lambda name: counts[name], default=None)
    return fullest if fullest and 2 * counts[fullest] >= len(variants.rows) else None


def _spread(variants: Variants, rows: np.ndarray, most: int) -> list[Variant]:
    """Return at most so many of the variants at some indices, int64 [n], spread evenly over them."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]
    return [variants.rows[row] for row in chosen.tolist()]


def _measure(
    request: EngineRequest,
    extractor: FeatureExtractor,
    photos: Callable[[], list[np.ndarray]],
    terminal: Terminal,
) -> Measurement | None:
    """Return how fast the engines of a request are here, remembered for later runs; None where there is no choice."""
    runner = extractor.runner
    if (request.precision == FLOAT32 and runner.batched) or not (images := photos()):
        return None
    able: dict[str, BackboneRunner] = {}
    for name in filter(is_installed, request.names):
        each = runner.in_engine(name, request.precision)
        try:
            if not each.batched:
                each.runner()
            able[name] = each
        except BackboneError as error:
            terminal.warn(f"{TITLES[name]} is not used: {error}")
    if not able:
        return None
    measured = measuring.measure(able, images)
    measuring.remember(runner.backbone.graph.parent, request.precision, measured)
    terminal.say(f"{measured} (measured once; --engine rules).")
    if request.precision == FLOAT32 and is_installed(OPENVINO) and (prospects := processor.prospects()):
        terminal.say(prospects)
    return measured


def _sample(variants: Variants, extractor: FeatureExtractor, most: int) -> Callable[[], list[np.ndarray]]:
    """Return a function that decodes some of the training photos, spread evenly over all: uint8 [H, W, 3] each."""

    def read() -> list[np.ndarray]:
        # A few more, for there may be photos that cannot be read.
        chosen = _spread(variants, variants.members[Split.TRAINING], most + most // 4)
        return extractor.pixels(map(Variant, dict.fromkeys(variant.path for variant in chosen)))[:most]

    return read
