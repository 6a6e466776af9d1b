"""Runs a frozen backbone: one image a thread in LiteRT or OpenVINO on the CPU, or batches in TensorFlow.

LiteRT (XNNPACK) is the engine that is always there, and OpenVINO is faster for some networks on some processors; both
read the LiteRT model. TensorFlow serves GPUs, and backbones with operations that LiteRT has not.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrain import workers
from retrain.backbones import devices, engines
from retrain.backbones.loading import LITERT_MODEL, Backbone, is_whole, write_with_checksum
from retrain.backbones.openvino_network import OpenVINONetwork
from retrain.backbones.quantized import drawn_images
from retrain.backbones.quantized import path_of as quantized_path
from retrain.errors import BackboneError
from retrain.formats.litert import conversion
from retrain.formats.litert.model import Runner
from retrain.graphs import editing, reading

RunOne = Callable[[np.ndarray], np.ndarray]  # pixels uint8 [H, W, 3] -> float32 [D]
RunSeveral = Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]]
# What engines may differ by: float32 by its rounding, relative to the largest feature; others by the angle of a vector.
_LARGEST_DIFFERENCE, _SMALLEST_COSINE = 2e-3, 0.9


class BackboneRunner:
    """One backbone in one engine, opened at the first use.

    `batched` tells how it runs: `run_batch` for many images at once, or a `runner` of its own for every thread.
    """

    def __init__(
        self,
        backbone: Backbone,
        warn: Callable[[str], None],
        *,
        distribution: str = "none",
        engine: str = engines.AUTO,
        precision: str = engines.FLOAT32,
        threads: int | None = None,
    ) -> None:
        """Prepare to run a backbone, whose LiteRT model is kept beside its graph.

        Args:
            backbone: A frozen network.
            warn: Called with the reason why LiteRT is not used, and with the batch size that fits into the memory.
            distribution: As in `devices.strategy`, of batches in TensorFlow.
            engine: Of `engines.ENGINES`; `AUTO` is TensorFlow where it has a GPU or LiteRT no form, and else LiteRT.
            precision: Of `engines.PRECISIONS`; for int8, `quantized.int8_model` has made the model.
            threads: How many will run it at once; by default as many as there are cores.
        """
        self.backbone, self.distribution, self.threads = backbone, distribution, threads or workers.cores()
        self.engine, self.precision = engine, precision
        self._warn = warn

    def in_engine(self, engine: str, precision: str) -> "BackboneRunner":
        """Return the same backbone in another engine."""
        return BackboneRunner(
            self.backbone, self._warn, distribution=self.distribution, engine=engine, precision=precision
        )

    @functools.cached_property
    def batched(self) -> bool:
        """Return whether the backbone runs in TensorFlow: as asked, on a GPU, or because LiteRT cannot."""
        if self.engine != engines.AUTO:
            return self.engine == engines.TENSORFLOW
        return devices.has_gpu() or self.model is None

    @functools.cached_property
    def model(self) -> Path | None:
        """Return the backbone as an undamaged float32 LiteRT model, converted if there is none; None if it cannot be.

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

    @property
    def at_once(self) -> int:
        """Return how many images a thread should have before it runs them."""
        return self._network.at_once if self.engine == engines.OPENVINO else 1

    def runner(self) -> RunOne:
        """Return a runner of one image for one thread.

        Raises:
            BackboneError: The engine cannot run the backbone, or gives other vectors than LiteRT.
        """
        if self.engine != engines.OPENVINO:
            return self._litert()
        run = self._network.runner()
        return lambda pixels: run([pixels])[0]

    def runner_of_several(self) -> RunSeveral:
        """Return a runner of any number of images for one thread, best of a multiple of `at_once`.

        Raises:
            BackboneError: As `runner`.
        """
        return self._network.runner() if self.engine == engines.OPENVINO else functools.partial(map, self._litert())

    def _litert(self) -> RunOne:
        return Runner(self._model_to_run(), self.backbone.input)

    def _model_to_run(self) -> Path:
        """Return the LiteRT model that this engine runs in this precision; OpenVINO reads the same files."""
        model = quantized_path(self.backbone) if self.precision == engines.INT8 else self.model
        if model is None:
            raise BackboneError("this backbone has no LiteRT form. Give --engine tensorflow.")
        return model

    @functools.cached_property
    def _network(self) -> OpenVINONetwork:
        """Return the network as OpenVINO has compiled it for this processor, once it gives what LiteRT gives."""
        spec = self.backbone.input
        network = OpenVINONetwork(self._model_to_run(), spec, precision=self.precision, threads=self.threads)
        litert = self._litert()  # the same model
        images = drawn_images(2, *spec.size)
        for image, vector in zip(images, network.runner()(images), strict=True):
            _check_agreement(vector, litert(image), exact=self.precision == engines.FLOAT32)
        return network

    @functools.cached_property
    def run_batch(self) -> "TensorFlowRunner":
        """Return what runs many images at once."""
        return TensorFlowRunner(self.backbone, self._warn, distribution=self.distribution)

    def run_one(self, pixels: np.ndarray) -> np.ndarray:
        """Return the vector, float32 [D], for the pixels of one image, uint8 [H, W, 3]."""
        return self.run_batch(pixels[None])[0] if self.batched else self.runner()(pixels)


def _check_agreement(vector: np.ndarray, expected: np.ndarray, *, exact: bool) -> None:
    """Refuse an engine whose vector, float32 [D], is not that of LiteRT, but for what its precision explains.

    Raises:
        BackboneError: It is not.
    """
    difference = float(np.abs(vector - expected).max()) / max(1e-6, float(np.abs(expected).max()))
    lengths = float(np.linalg.norm(vector) * np.linalg.norm(expected))
    cosine = float(vector @ expected) / lengths if lengths else float(difference == 0)
    if not (difference <= _LARGEST_DIFFERENCE if exact else cosine >= _SMALLEST_COSINE):
        raise BackboneError(
            f"OpenVINO gives other features than LiteRT on this processor (difference {difference:.2g}, cosine "
            f"{cosine:.2g}). Give --engine litert."
        )


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
