"""Plain gradient descent on a head of one layer, in numpy: the original's training with shrinkage, and the fastest."""

import numpy as np

from retrain.head import Head, Layer, Standardisation, multiply
from retrain.training.chunks import Chunk


class SgdTrainer:
    """The weights of a training that continues from chunk to chunk; they start at zero.

    A linear head on standardised features needs no random start ("Big Transfer", Kolesnikov et al., 2020).
    """

    def __init__(self, scale: Standardisation, *, class_count: int, learning_rate: float, l2: float) -> None:
        """Start a head of `class_count` classes; `l2` times the sum of the squared weights is added to the loss."""
        self._scale, self._learning_rate = scale, np.float32(learning_rate)
        self._factor = 1 / scale.deviation
        self._kept = np.float32(1 - 2 * learning_rate * l2)  # of each weight at each step: the gradient of that sum
        # [C, D], along the rows of the bottlenecks, which both products read faster.
        self._weights = np.zeros((class_count, len(scale.mean)), np.float32)
        self._biases = np.zeros(class_count, np.float32)

    @staticmethod
    def convert(vectors: np.ndarray) -> np.ndarray:
        """Return bottlenecks as `run` takes them."""
        return vectors

    @staticmethod
    def skip_to(step: int) -> None:
        """Take the rate of another step: it is the same at each."""

    def run(
        self, chunk: Chunk, vectors: np.ndarray, held_out: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Train the steps of one chunk, and return what was measured.

        Args:
            chunk: Which.
            vectors: Bottlenecks of its steps, as in `chunks.with_bottlenecks`.
            held_out: Bottlenecks of its evaluations.
            labels: int64 [N], class ids of all examples.

        Returns:
            float32 [S, 2], accuracy and cross-entropy of each step's batch before it; and float32 [E, 4], both of the
            last training batch and of the validation batch at each evaluation.
        """
        with np.errstate(all="ignore"):  # weights that are not finite are the caller's to report
            return self._run(chunk, vectors, held_out, labels)

    def _run(
        self, chunk: Chunk, vectors: np.ndarray, held_out: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        all_labels, rows = labels[chunk.batches], np.arange(chunk.batches.shape[1])
        predictions = np.empty(all_labels.shape, np.int64)
        true_logits, sums = np.empty(all_labels.shape, np.float32), np.empty(all_labels.shape, np.float32)
        batch = np.empty((len(rows), self._weights.shape[1]), np.float32)
        logits, gradient = np.empty((len(rows), len(self._biases)), np.float32), np.empty_like(self._weights)
        evaluations: list[tuple[float, float, float, float]] = []
        evaluated_after = set(chunk.evaluated_after.tolist())
        for step, batch_labels in enumerate(all_labels):
            self._read(chunk, vectors, step, out=batch)
            self._logits(batch, out=logits)
            predictions[step] = logits.argmax(axis=1)
            logits -= logits.max(axis=1, keepdims=True)
            true_logits[step] = logits[rows, batch_labels]
            np.exp(logits, out=logits)
            logits.sum(axis=1, out=sums[step])
            logits /= sums[step][:, None]
            logits[rows, batch_labels] -= 1
            logits *= self._learning_rate / np.float32(len(rows))
            multiply(logits.T, batch, out=gradient)
            self._weights *= self._kept
            self._weights -= gradient
            self._biases -= logits.sum(axis=0)
            if step + 1 in evaluated_after:
                self._logits(batch, out=logits)
                validation = self._validate(chunk, held_out, len(evaluations), labels)
                evaluations.append((*measure(logits, batch_labels), *validation))
        correct = (predictions == all_labels).mean(axis=1, dtype=np.float32)
        losses = (np.log(sums) - true_logits).mean(axis=1)
        return np.stack([correct, losses], axis=1), np.array(evaluations, np.float32).reshape(-1, 4)

    def head(self) -> Head:
        """Return the head as it is now, on raw bottlenecks."""
        return self._scale.fold((Layer(np.ascontiguousarray(self._weights.T), self._biases.copy()),))

    def _read(self, chunk: Chunk, vectors: np.ndarray, step: int, *, out: np.ndarray) -> None:
        """Write the standardised bottlenecks of a step into `out`."""
        if chunk.examples is not None:
            np.take(vectors, chunk.batch_rows[step], axis=0, out=out, mode="clip")
        else:
            np.subtract(vectors[step], self._scale.mean, out=out)
            out *= self._factor  # several times as fast as a division

    def _logits(self, standardised: np.ndarray, *, out: np.ndarray) -> None:
        multiply(standardised, self._weights.T, out=out)
        out += self._biases

    def _validate(self, chunk: Chunk, held_out: np.ndarray, number: int, labels: np.ndarray) -> tuple[float, float]:
        """Return accuracy and cross-entropy of an evaluation's validation batch."""
        row = number % len(chunk.validation)
        logits = np.empty((chunk.validation.shape[1], len(self._biases)), np.float32)
        if chunk.examples is not None:
            self._logits(held_out[chunk.validation_rows[row]], out=logits)
        else:  # raw, and possibly a whole split: fold the weights rather than copy it
            layer = self.head().last
            multiply(held_out[row], layer.weights, out=logits)
            logits += layer.biases
        return measure(logits, labels[chunk.validation[row]])


def measure(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return accuracy, 0 to 1, and mean cross-entropy in nats of logits float32 [N, C]; NaN for N = 0."""
    if not len(labels):
        return np.nan, np.nan
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return float((logits.argmax(axis=1) == labels).mean()), float(losses.mean())
