"""The 8-bit form of a backbone: made once, kept beside the float32 one, and part of what its bottlenecks depend on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retrain.backbones.catalogue import Kind
from retrain.backbones.loading import Backbone, is_whole, write_with_checksum
from retrain.backbones.sources import BackboneSource
from retrain.formats.litert import conversion
from retrain.graphs import reading

_DRAWN = 60  # images; more of them move no range any further
_NAMED = (Kind.PACKAGE, Kind.BUNDLED, Kind.ARCHIVE, Kind.KERAS)


def path_of(backbone: Backbone) -> Path:
    """Return where the 8-bit form of a backbone is kept."""
    return backbone.graph.with_name("backbone_int8.tflite")


def int8_model(
    backbone: Backbone, source: BackboneSource, photos: Callable[[], Sequence[np.ndarray]], say: Callable[[str], None]
) -> Path:
    """Return the 8-bit form of a backbone, pixels in and float32 vectors out, calibrated where there is none yet.

    Networks that have a name in the catalogue are calibrated on drawn images, so that their 8-bit form follows from
    their weights alone; others may be made for pictures of any kind (X-rays, say), and are calibrated on the photos.

    Args:
        backbone: The frozen network.
        source: Where it is from.
        photos: Returns a hundred or more photos, uint8 [H, W, 3] each.
        say: Called with a line before the seconds of work.

    Raises:
        BackboneError: LiteRT has no form of it, or it cannot be written.
    """
    path = path_of(backbone)
    if is_whole(path):
        return path
    named = source.spec.kind in _NAMED
    say(f"Making the 8-bit form of {backbone.architecture} from {'drawn images' if named else 'the photos'}, once.")
    images = drawn_images(_DRAWN, *backbone.input.size) if named else photos()
    graph_def = reading.read_graph(backbone.graph)
    model = conversion.to_int8(graph_def, backbone.input, target=backbone.target, images=images, float_output=True)
    write_with_checksum(path, model)
    return path


def drawn_images(count: int, height: int, width: int) -> list[np.ndarray]:
    """Return images uint8 [height, width, 3], always the same, whose frequencies and colours spread as in photos.

    Noise whose amplitude falls with the frequency (Field, "Relations between the statistics of natural images and the
    response properties of cortical cells", 1987), in channels that resemble each other.
    """
    rng = np.random.default_rng(0)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitudes = 1 / np.maximum(frequencies, 1 / max(height, width))
    images = []
    for _ in range(count):
        planes = [
            np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * amplitudes ** rng.uniform(0.7, 1.4),
                          s=(height, width))
            for _ in range(3)
        ]  # fmt: skip
        waves = np.stack(planes, axis=-1)
        waves = (waves - waves.mean((0, 1))) / waves.std((0, 1))
        waves @= (0.4 * np.eye(3) + 0.6 * rng.dirichlet([1, 1, 1])).T
        waves *= rng.uniform(20, 75) / waves.std()
        images.append(np.clip(rng.uniform(40, 215, 3) + waves, 0, 255).astype(np.uint8))
    return images
