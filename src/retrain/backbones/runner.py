"""Runs a frozen backbone: one LiteRT interpreter a thread on the CPU, or TensorFlow in batches.

LiteRT (XNNPACK) runs one image a thread faster than TensorFlow runs batches on the same processor; TensorFlow
serves GPUs, and backbones with operations that LiteRT has not.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retrain import workers
from retrain.backbones import devices
from retrain.backbones.loading import LITERT_MODEL, Backbone, is_whole, write_with_checksum
from retrain.errors import BackboneError
from retrain.formats.litert import conversion
from retrain.formats.litert.model import Runner
from retrain.graphs import editing, reading


class BackboneRunner:
    """The fastest way to run one backbone on this machine, opened at the first use.

    `batched` tells which: `run_batch` for many images at once, or a `runner` of its own for every thread.
    """

    def __init__(self, backbone: Backbone, warn: Callable[[str], None], *, distribution: str = "none") -> None:
        """Prepare to run a backbone, whose LiteRT model is kept beside its graph.

        Args:
            backbone: A frozen network.
            warn: Called with the reason why LiteRT is not used, and with the batch size that fits into the memory.
            distribution: As in `devices.strategy`, of batches in TensorFlow.
        """
        self.backbone, self.distribution, self.threads = backbone, distribution, workers.cores()
        self._warn = warn

    @functools.cached_property
    def batched(self) -> bool:
        """Return whether the backbone runs in TensorFlow: on a GPU, or because LiteRT cannot."""
        return devices.has_gpu() or self.model is None

    @functools.cached_property
    def model(self) -> Path | None:
        """Return the backbone as an undamaged LiteRT model, converted where there is none; None if it cannot be.

        Raises:
            BackboneError: It cannot be written.
        """
        model, backbone = self.backbone.graph.with_name(LITERT_MODEL), self.backbone
        if not is_whole(model):
            try:
                graph_def = reading.read_graph(backbone.graph)
                converted = conversion.to_float32(graph_def, backbone.input, target=backbone.target)
            except BackboneError as error:
                self._warn(f"{error} TensorFlow runs it instead.")
                return None
            write_with_checksum(model, converted)
        return model

    def runner(self) -> Runner:
        """Return a runner of one image for one thread.

        Raises:
            BackboneError: LiteRT cannot run the backbone.
        """
        if self.model is None:
            raise BackboneError("LiteRT cannot run this backbone.")
        return Runner(self.model, self.backbone.input)

    @functools.cached_property
    def run_batch(self) -> "TensorFlowRunner":
        """Return what runs many images at once."""
        return TensorFlowRunner(self.backbone, self._warn, distribution=self.distribution)

    def run_one(self, pixels: np.ndarray) -> np.ndarray:
        """Return the vector, float32 [D], for the pixels of one image, uint8 [H, W, 3]."""
        return self.run_batch(pixels[None])[0] if self.batched else self.runner()(pixels)


class TensorFlowRunner:
    """Runs batches through a backbone in TensorFlow, on all GPUs where there are any."""

    def __init__(
        self, backbone: Backbone, warn: Callable[[str], None] = lambda line: None, *, distribution: str = "none"
    ) -> None:
        """Load a backbone; `warn` is called when a batch was too large, `distribution` as in `devices.strategy`."""
        import tensorflow as tf

        self._strategy, self._warn = devices.strategy(distribution), warn
        self._most: int | None = None  # images at a time, once a batch did not fit into the memory
        spec = backbone.input
        graph_def = reading.read_graph(backbone.graph)
        network = editing.as_function(graph_def, source=spec.node or "", target=backbone.target)

        def run(pixels: Any) -> Any:
            return network((tf.cast(pixels, tf.float32) - spec.mean) / spec.std)

        # A last batch may be smaller.
        self._run = tf.function(lambda shares: self._strategy.run(run, (shares,)), reduce_retracing=True)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the vectors, float32 [N, D], for the pixels of N images, uint8 [N, H, W, 3]."""
        return halving(self._run_batch, pixels, most=self._most or len(pixels), warn=self._shrink)

    def _run_batch(self, pixels: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        shares = devices.split_across_replicas(self._strategy, len(pixels), lambda part: tf.constant(pixels[part]))
        vectors = self._strategy.experimental_local_results(self._run(shares))
        return np.concatenate([share.numpy() for share in vectors])

    def _shrink(self, batch_size: int) -> None:
        self._most = batch_size
        self._warn(f"A batch does not fit into the memory: running {batch_size} images at a time from now on.")


def halving(
    run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, *, most: int, warn: Callable[[int], None]
) -> np.ndarray:
    """Return the vectors of images, run `most` at a time, and half as many each time that they do not fit.

    Args:
        run: From uint8 [n, H, W, 3] to float32 [n, D]; raises ResourceExhaustedError where the memory is too small.
        pixels: uint8 [N, H, W, 3].
        most: How many to begin with.
        warn: Called with how many fit.

    Raises:
        BackboneError: Not even one image fits.
    """
    import tensorflow as tf

    vectors: list[np.ndarray] = []
    done = 0
    while done < len(pixels):
        try:
            vectors.append(run(pixels[done : done + most]))
            done += most
        except tf.errors.ResourceExhaustedError as error:
            if most == 1:
                raise BackboneError(
                    "one image alone does not fit into the memory. Choose a smaller network, or hide the GPU with "
                    "CUDA_VISIBLE_DEVICES=-1."
                ) from error
            most = max(1, most // 2)
            warn(most)
    return np.concatenate(vectors)
