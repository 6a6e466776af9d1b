"""Trains weights for the bundled backbone: a small MobileNet learns to answer as a large teacher does.

Distillation after Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", 2021: teacher
and student see the same crops, for long. With --logits the student learns the teacher's softened classes (Hinton et
al., 2015); without, the teacher's standardised features. The result goes to `retrain --weights FILE.npz`.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrain.backbones import catalogue, families
from retrain.backbones.loading import load_backbone
from retrain.backbones.runner import TensorFlowRunner
from retrain.backbones.sources import WeightsRequest
from retrain.cli import console
from retrain.data.decoding import decode
from retrain.data.image_files import is_image
from retrain.errors import ImageError, UsageError
from retrain.terminal import Terminal

SIZES = (64, 96, 128)  # of the student's images, small ones first: most is learnt where a step is cheap
TEMPERATURE = 2.0
_DECODED = 320  # pixels a side from which crops are taken
_TEACHER_BATCH = 32


@dataclass(frozen=True)
class Lessons:
    """Crops for the student, uint8 [N, 128, 128, 3], the teacher's outputs for them, and whether those are logits.

    The outputs are float32 [N, K]; if they are not class logits, they are features.
    """

    crops: np.ndarray
    answers: np.ndarray
    logits: bool = False


def prepare(
    images: Sequence[Path], teacher: TensorFlowRunner, size: int, *, crops: int, seed: int, folder: Path
) -> Lessons:
    """Return the teacher's outputs for random crops (30 to 100 % of the area) of images; unreadable ones are left out.

    The teacher turns uint8 [n, size, size, 3] into float32 [n, K]. The student's crops are kept in the folder, mapped
    into memory.
    """
    rng = np.random.default_rng(seed)
    kept = np.lib.format.open_memmap(
        folder / "crops.npy", "w+", np.uint8, (len(images) * crops, SIZES[-1], SIZES[-1], 3)
    )
    answers: list[np.ndarray] = []
    batch: list[np.ndarray] = []
    count = 0
    advance = Terminal().progress("Computing the teacher's outputs", "image")
    for number, path in enumerate(images):
        for crop in _crops(path, rng, crops):
            kept[count] = np.asarray(crop.resize((SIZES[-1],) * 2, Image.Resampling.BILINEAR))
            batch.append(np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR)))
            count += 1
        if len(batch) >= _TEACHER_BATCH or number == len(images) - 1:
            answers += [teacher(np.stack(batch))] if batch else []
            batch = []
        advance(number + 1, len(images))
    if not answers:
        raise UsageError("none of the images could be read.")
    return Lessons(kept[:count], np.concatenate(answers))


def distil(lessons: Lessons, *, alpha: float, steps: int, batch_size: int, learning_rate: float, seed: int) -> Any:
    """Return the trained student, a `keras.applications.MobileNet` of width `alpha` without its classifier.

    A third of the steps is at each of `SIZES`; half of the batches are mirrored. The learning rate falls to zero along
    a cosine.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    student = keras.applications.MobileNet(
        input_shape=(None, None, 3), alpha=alpha, include_top=False, weights=None, pooling="avg"
    )
    output = keras.layers.Dense(lessons.answers.shape[1])
    model = keras.Sequential([student, output])
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.02)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    targets = lessons.answers if lessons.logits else _standardised(lessons.answers)

    @tf.function(reduce_retracing=True)
    def step(pixels: Any, answers: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(tf.cast(pixels, tf.float32) / 127.5 - 1, training=True)
            if lessons.logits:
                soft = tf.nn.softmax(answers / TEMPERATURE)
                loss = TEMPERATURE**2 * tf.reduce_mean(
                    tf.nn.softmax_cross_entropy_with_logits(soft, outputs / TEMPERATURE)
                )
            else:
                loss = tf.reduce_mean(tf.square(outputs - answers))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    terminal = Terminal()
    advance = terminal.progress("Training the student", "step")
    for number, (rows, size, mirror) in enumerate(_batches(len(targets), steps, batch_size, seed)):
        pixels = tf.image.resize(lessons.crops[rows], (size, size))
        loss = step(pixels[:, :, ::-1] if mirror else pixels, tf.constant(targets[rows]))
        if number % 100 == 0 or number == steps - 1:
            terminal.say(f"Step {number}: {size} px, loss = {float(loss):.4f}")
        advance(number + 1, steps)
    return student


def save(student: Any, path: Path) -> None:
    """Write a student's weights in the layout of the bundled ones: convolutions float16, the rest float32."""
    arrays = {}
    for variable in student.weights:
        name = "/".join(variable.path.split("/")[-2:])
        arrays[name] = variable.numpy().astype(np.float16 if variable.path.endswith("kernel") else np.float32)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _crops(path: Path, rng: np.random.Generator, count: int) -> Iterator[Image.Image]:
    try:
        whole = Image.fromarray(decode(path.read_bytes(), height=_DECODED, width=_DECODED))
    except (OSError, ImageError):
        return
    for _ in range(count):
        side = int(_DECODED * np.sqrt(rng.uniform(0.3, 1.0)))
        left, top = rng.integers(0, _DECODED - side + 1, 2).tolist()
        yield whole.crop((left, top, left + side, top + side))


def _batches(count: int, steps: int, size: int, seed: int) -> Iterator[tuple[np.ndarray, int, bool]]:
    """Yield, for each step, rows int64 [size], the pixels of a side, and whether to mirror."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        yield np.sort(rng.integers(0, count, size)), SIZES[step * len(SIZES) // steps], bool(rng.integers(2))


def _standardised(answers: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (answers - answers.mean(axis=0)) / (answers.std(axis=0) + 1e-6)
    return scaled


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains weights for the bundled backbone by distillation.")
    add = parser.add_argument
    add("--image_dir", type=Path, required=True, help="folder of images, at any depth")
    add("--output", type=Path, required=True, help="the .npz file to write")
    # The second names are those that errors of `retrain` name.
    add("--teacher", "--architecture", default=catalogue.DEFAULT, help="any --architecture (default: %(default)s)")
    add("--logits", metavar="NODE", help="the teacher's class logits, e.g. MobilenetV1/Predictions/Reshape")
    add("--teacher_weights", "--weights", metavar="FILE", help="weights of a keras: teacher")
    add("--model_dir", type=Path, default=Path("tf_files/models"), help="where teachers lie")
    add("--alpha", type=float, default=0.5, help="width of the student (default: %(default)s)")
    add("--crops", type=int, default=3, help="crops of each image (default: %(default)s)")
    add("--steps", type=int, default=20_000, help="training steps (default: %(default)s)")
    add("--batch_size", type=int, default=128, help="crops a step (default: %(default)s)")
    add("--learning_rate", type=float, default=0.003, help="the highest (default: %(default)s)")
    add("--random_seed", type=int, default=0, help="default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Train a student as the arguments say, write its weights, and return the exit code."""
    args = _parse(arguments)
    images = sorted(path for path in args.image_dir.rglob("*") if path.is_file() and is_image(path))
    if not images:
        raise UsageError(f"no images in {args.image_dir}.")
    spec = catalogue.find(args.teacher)
    spec = replace(spec, target=args.logits or spec.target)
    with tempfile.TemporaryDirectory() as folder:
        advance = Terminal().progress("Downloading the teacher", "B")
        request = WeightsRequest(args.model_dir, args.teacher_weights, args.random_seed, advance)
        backbone = load_backbone(families.locate(spec, request), Path(folder))
        teacher = TensorFlowRunner(backbone)
        lessons = prepare(
            images, teacher, backbone.input.size[0], crops=args.crops, seed=args.random_seed, folder=Path(folder)
        )
        student = distil(
            replace(lessons, logits=args.logits is not None),
            alpha=args.alpha,
            steps=args.steps,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            seed=args.random_seed,
        )
    save(student, args.output)
    print(f"Wrote {args.output}. Use it with:")
    print(f"retrain --architecture {catalogue.BUNDLED} --weights {args.output} --image_dir PHOTOS")
    return console.DONE


if __name__ == "__main__":
    console.run("pretrain_backbone", main)
