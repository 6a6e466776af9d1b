"""The original retrain.py's method under today's TensorFlow, written anew and kept to what decides its speed.

One image at a time through a session on the same frozen graph, decoded at full size; one text file a bottleneck;
every training step reads its batch from those files and feeds it; every step writes its summaries.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Bottlenecks:
    """Computes bottlenecks as the original does."""

    def __init__(self, graph: Path, *, source: str, target: str, size: int) -> None:
        """Load a frozen graph and add the decoding in front of it."""
        import tensorflow as tf

        v1 = tf.compat.v1
        self._graph = tf.Graph()
        with self._graph.as_default():
            definition = v1.GraphDef()
            definition.ParseFromString(graph.read_bytes())
            self._target, self._source = tf.import_graph_def(
                definition, name="", return_elements=[f"{target}:0", f"{source}:0"]
            )
            self._jpeg = v1.placeholder(tf.string)
            decoded = tf.cast(tf.image.decode_jpeg(self._jpeg, channels=3), tf.float32)
            resized = v1.image.resize_bilinear(tf.expand_dims(decoded, 0), [size, size])
            self._image = tf.multiply(tf.subtract(resized, 127.5), 1 / 127.5)
        self._session = v1.Session(graph=self._graph)

    def __call__(self, image: Path) -> np.ndarray:
        """Return the bottleneck of a JPEG file, float32 [D]."""
        pixels = self._session.run(self._image, {self._jpeg: image.read_bytes()})
        return np.squeeze(self._session.run(self._target, {self._source: pixels}))


def fill(images: Sequence[Path], bottlenecks: Bottlenecks, folder: Path) -> list[Path]:
    """Write one text file for each image and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, image in enumerate(images):
        path = folder / f"{number}.txt"
        path.write_text(",".join(str(value) for value in bottlenecks(image)))
        written.append(path)
    return written


def train(files: Sequence[Path], labels: Sequence[int], *, steps: int, summaries: Path, held_out: int) -> None:
    """Train a last layer for some steps; the last `held_out` files are for validation, every ten steps."""
    import tensorflow as tf

    v1 = tf.compat.v1
    dimension, classes = len(files[0].read_text().split(",")), max(labels) + 1
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = v1.placeholder(tf.float32, [None, dimension])
        targets = v1.placeholder(tf.float32, [None, classes])
        layer_weights = tf.Variable(tf.random.truncated_normal([dimension, classes], stddev=0.001), name="weights")
        layer_biases = tf.Variable(tf.zeros([classes]), name="biases")
        logits = tf.matmul(inputs, layer_weights) + layer_biases
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits))
        step = v1.train.GradientDescentOptimizer(0.01).minimize(loss)
        right = tf.equal(tf.argmax(logits, 1), tf.argmax(targets, 1))
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
        for name, variable in (("weights", layer_weights), ("biases", layer_biases)):
            _summarise(v1, name, variable)
        v1.summary.histogram("pre_activations", logits)
        v1.summary.histogram("activations", tf.nn.softmax(logits))
        v1.summary.scalar("cross_entropy", loss)
        v1.summary.scalar("accuracy", accuracy)
        merged = v1.summary.merge_all()
        writers = [v1.summary.FileWriter(str(summaries / name)) for name in ("train", "validation")]
        session.run(v1.global_variables_initializer())
        training, validation = range(len(files) - held_out), range(len(files) - held_out, len(files))
        for number in range(steps):
            feed = _batch(files, labels, training, classes, inputs, targets)
            summary, _ = session.run([merged, step], feed)
            writers[0].add_summary(summary, number)
            if number % 10 == 0:
                session.run([accuracy, loss], feed)
                feed = _batch(files, labels, validation, classes, inputs, targets)
                writers[1].add_summary(session.run([merged, accuracy], feed)[0], number)
        for writer in writers:
            writer.close()


def _summarise(v1: Any, name: str, variable: Any) -> None:
    import tensorflow as tf

    mean = tf.reduce_mean(variable)
    v1.summary.scalar(f"{name}/mean", mean)
    v1.summary.scalar(f"{name}/stddev", tf.sqrt(tf.reduce_mean(tf.square(variable - mean))))
    v1.summary.scalar(f"{name}/max", tf.reduce_max(variable))
    v1.summary.scalar(f"{name}/min", tf.reduce_min(variable))
    v1.summary.histogram(f"{name}/histogram", variable)


def _batch(
    files: Sequence[Path], labels: Sequence[int], pool: Sequence[int], classes: int, inputs: Any, targets: Any
) -> dict[Any, Any]:
    vectors, one_hot = [], []
    for _ in range(100):
        chosen = random.choice(pool)
        vectors.append([float(value) for value in files[chosen].read_text().split(",")])
        one_hot.append(np.eye(classes, dtype=np.float32)[labels[chosen]])
    return {inputs: vectors, targets: one_hot}


LABEL_IMAGE = """
import sys, time
import numpy as np
import tensorflow as tf
graph_file, image, labels_file, size = sys.argv[1:]
graph = tf.Graph()
definition = tf.compat.v1.GraphDef()
definition.ParseFromString(open(graph_file, "rb").read())
with graph.as_default():
    tf.import_graph_def(definition)
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    decoded = tf.image.decode_jpeg(tf.io.read_file(image), channels=3)
    resized = tf.compat.v1.image.resize_bilinear(tf.expand_dims(tf.cast(decoded, tf.float32), 0), [int(size)] * 2)
    pixels = session.run(tf.divide(tf.subtract(resized, [128]), [128]))
with tf.compat.v1.Session(graph=graph) as session:
    start = time.time()
    inputs = graph.get_operation_by_name("import/input").outputs[0]
    scores = np.squeeze(session.run(graph.get_operation_by_name("import/final_result").outputs[0], {inputs: pixels}))
    print("Evaluation time (1-image): {:.3f}s".format(time.time() - start))
names = [line.strip() for line in open(labels_file)]
for number in scores.argsort()[-5:][::-1]:
    print("{} (score={:0.5f})".format(names[number], scores[number]))
"""
