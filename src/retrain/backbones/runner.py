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
from retrain.backbones.loading import Backbone
from retrain.errors import BackboneError
from retrain.files import write_atomically
from retrain.formats.litert import conversion
from retrain.formats.litert import model as litert_model
from retrain.graphs import editing, reading


class TensorFlowRunner:
    """Runs batches through a frozen graph in TensorFlow, on all GPUs where there are any."""

    def __init__(
        self,
        graph: Path,
        *,
        source: str,
        target: str,
        mean: float,
        std: float,
        distribution: str = "none",
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Load the part of a graph file from node `source`, which takes `(pixel - mean) / std`, to node `target`.

        Args:
            graph: The file.
            source: Takes the images.
            target: Gives the vectors.
            mean: Subtracted from pixels.
            std: Divides them.
            distribution: As in `devices.strategy`.
            warn: Told of a batch that does not fit into the memory.
        """
        import tensorflow as tf

        self._strategy, self._warn, self._most = devices.strategy(distribution), warn, 0

        network = editing.as_function(reading.read_graph(graph), source=source, target=target)

        def run(pixels: Any) -> Any:
            return network((tf.cast(pixels, tf.float32) - mean) / std)

        def spread(shares: Any) -> Any:
            return self._strategy.run(run, (shares,))

        self._run = tf.function(spread, reduce_retracing=True)  # a last batch may be smaller

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the vectors, float32 [N, D], for the pixels of N images, uint8 [N, H, W, 3]."""
        self._most = self._most or len(pixels)
        return halving(self._spread, pixels, most=self._most, warn=self._shrunk)

    def _spread(self, pixels: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        shares = devices.split_across_replicas(self._strategy, len(pixels), lambda part: tf.constant(pixels[part]))
        vectors = self._strategy.experimental_local_results(self._run(shares))
        return np.concatenate([share.numpy() for share in vectors])

    def _shrunk(self, most: int) -> None:
        self._most = most
        self._warn(f"A batch does not fit into the memory: running {most} images at a time from now on.")


def halving(
    run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, *, most: int, warn: Callable[[int], None]
) -> np.ndarray:
    """Return what `run` makes of images, run `most` at a time, and half as many each time that they do not fit.

    Args:
        run: From uint8 [n, H, W, 3] to float32 [n, D]; raises ResourceExhaustedError where the memory is too small.
        pixels: uint8 [N, H, W, 3].
        most: How many to begin with.
        warn: Told how many fit.

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


class BackboneRunner:
    """The fastest way to run one backbone on this machine, opened at the first use.

    `batched` tells which: `run_batch` for many images at once, or a `runner` of its own for every thread.
    """

    def __init__(
        self,
        graph: Path,
        *,
        source: str,
        target: str,
        height: int,
        width: int,
        mean: float,
        std: float,
        model: Path,
        warn: Callable[[str], None],
        distribution: str = "none",
    ) -> None:
        """Prepare to run a graph file from `source` to `target` on `height` x `width` images.

        Args:
            graph: A frozen graph.
            source: Node that takes `(pixel - mean) / std`.
            target: Node that gives float32 [N, D].
            height: Rows of an image.
            width: Columns of an image.
            mean: Subtracted from pixels 0 to 255.
            std: Divides them.
            model: Where the converted LiteRT model is kept for the next run.
            warn: Told why LiteRT is not used, and of batches that do not fit.
            distribution: As in `devices.strategy`, of batches in TensorFlow.
        """
        self.height, self.width, self.threads = height, width, workers.cores()
        self._graph, self._source, self._target = graph, source, target
        self._mean, self._std, self._model, self._warn = mean, std, model, warn
        self.distribution = distribution

    @functools.cached_property
    def batched(self) -> bool:
        """Return whether the backbone runs in TensorFlow: on a GPU, or because LiteRT cannot."""
        return has_gpu() or self.model is None

    @functools.cached_property
    def model(self) -> Path | None:
        """Return the backbone as a LiteRT model, converted at the first use; None where LiteRT cannot run it."""
        if not self._model.exists():
            try:
                write_atomically(
                    self._model, conversion.to_float32(self._graph, source=self._source, target=self._target)
                )
            except BackboneError as error:
                self._warn(f"{error} TensorFlow runs it instead.")
                return None
        return self._model

    def runner(self) -> litert_model.Runner:
        """Return a runner of one image for one thread."""
        return litert_model.Runner(self._model, mean=self._mean, std=self._std)

    def run_batch(self, pixels: np.ndarray) -> np.ndarray:
        """Return the vectors, float32 [N, D], for the pixels of N images, uint8 [N, H, W, 3]."""
        return self._batch_runner(pixels)

    def run_one(self, pixels: np.ndarray) -> np.ndarray:
        """Return the vector, float32 [D], for the pixels of one image, uint8 [H, W, 3]."""
        return self.run_batch(pixels[None])[0] if self.batched else self.runner()(pixels)

    @functools.cached_property
    def _batch_runner(self) -> TensorFlowRunner:
        return TensorFlowRunner(
            self._graph,
            source=self._source,
            target=self._target,
            mean=self._mean,
            std=self._std,
            distribution=self.distribution,
            warn=self._warn,
        )


def has_gpu() -> bool:
    """Return whether TensorFlow sees a GPU."""
    import tensorflow as tf

    devices.share_memory()
    return bool(tf.config.list_physical_devices("GPU"))


def open_runner(backbone: Backbone, warn: Callable[[str], None], *, distribution: str = "none") -> BackboneRunner:
    """Return what runs a backbone, its LiteRT model kept beside its graph; `warn` is told why LiteRT is not used."""
    return BackboneRunner(
        backbone.graph,
        source=backbone.source,
        target=backbone.target,
        height=backbone.height,
        width=backbone.width,
        mean=backbone.mean,
        std=backbone.std,
        model=backbone.graph.with_name("backbone.tflite"),
        warn=warn,
        distribution=distribution,
    )
