"""What a finished run shows on TensorBoard: its summary, its mistakes, its place on the HParams page, its photos."""

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image

from retrain import sweep
from retrain.bottlenecks.photos import read_photo
from retrain.candidates import Candidate
from retrain.data import decoding
from retrain.data.split import Split
from retrain.errors import ImageError
from retrain.evaluation import board_pages, hparams, metrics, projector, projector_files
from retrain.evaluation.projector_files import PhotoPoints
from retrain.evaluation.report import Report, TestScores
from retrain.evaluation.tensorboard import Summaries
from retrain.preprocessing import CROP
from retrain.storage.folders import Folder
from retrain.terminal import Terminal
from retrain.time_limit import TimeLimit

# Settings that the HParams page has of every run; others only where they were changed.
_COMPARED = (
    "architecture", "learning_rate", "train_batch_size", "how_many_training_steps", "optimizer", "hidden_units", "l2",
    "random_seed",
)  # fmt: skip
_LEFT_OUT = ("run_name", "folds", "export", "max_accuracy_drop")  # which change no head


def show(
    chosen: Candidate,
    report: Report,
    test: TestScores,
    pictures: Mapping[str, bytes],
    *,
    limit: TimeLimit,
    terminal: Terminal,
) -> Mapping[str, Path]:
    """Show a finished run on TensorBoard, and return the event files to keep, by their runs.

    `pictures` has JPEG thumbnails of photos, by their paths: those that the report shows, too.

    Raises:
        ExportError: The folder of the summaries cannot be written.
    """
    with Summaries(chosen.summaries_dir, runs=(board_pages.TEST,)) as summaries:
        summaries.add_values([board_pages.summary(report), *board_pages.pr_curves(report, test)])
        summaries.add_values(board_pages.misclassified(report.misclassified, functools.partial(_pixels, pictures)))
        kept = summaries.paths
    if chosen.result is None:
        figures = _final_figures(chosen, report)
        kept = {**kept, **hparams.write_single(chosen.summaries_dir, _settings(chosen), figures)}
    if not chosen.artefacts.is_chief:
        return kept
    with terminal.waiting("Showing the photos on TensorBoard"):
        left = min(projector_files.PICTURE_SECONDS, max(0.0, -limit.exceeded()))
        if refused := _project(chosen, report, test, left):
            terminal.warn(refused)
    return kept


def _settings(chosen: Candidate) -> dict[str, float | str]:
    """Return the settings of a run as the HParams page compares them: a folder's place tells nothing."""
    config, values = chosen.config, {}
    for field in fields(config):
        value = getattr(config, field.name)
        is_changed = value != field.default and field.name not in _LEFT_OUT and not isinstance(value, Folder)
        if field.name in _COMPARED or is_changed:
            values[field.name] = "default" if value is None else value
    return sweep.Trial("", values).shown()


def _final_figures(chosen: Candidate, report: Report) -> dict[str, float]:
    """Return what a run reached, measured on all validation and test photos."""
    rows = chosen.prepared.variants.members[Split.VALIDATION]
    figures = {} if report.test_accuracy is None else {"test_accuracy": report.test_accuracy}
    if not len(rows):
        return figures
    measured = [row for row in chosen.history if row.step == chosen.step and row.validation_count == len(rows)]
    if measured and chosen.read is not chosen.prepared.read:
        # A fine-tuned network has been measured on all of them, which takes longer than for a head.
        accuracy, loss = measured[-1].validation_accuracy, measured[-1].validation_cross_entropy
    else:
        validation = chosen.labelled(rows, chosen.read)
        scores = validation.score(chosen.head.probabilities, class_count=len(report.class_names))
        accuracy, loss = metrics.accuracy(scores, validation.labels), metrics.cross_entropy(scores, validation.labels)
    return {**figures, "validation_accuracy": accuracy, "validation_cross_entropy": loss}


def _project(chosen: Candidate, report: Report, test: TestScores, seconds: float) -> str | None:
    """Bring the projector up to date, and return why it was left alone; its points are what the head was trained on."""
    prepared = chosen.prepared
    variants, names = prepared.variants, report.class_names
    splits = np.empty(len(variants.labels), np.int64)
    for number, split in enumerate(Split):
        splits[variants.members[split]] = number
    paths = [variant.path for variant in variants.rows]
    # Of several distorted copies of a photo, which are side by side, the first.
    first = np.array([row for row, path in enumerate(paths) if not row or path != paths[row - 1]], np.int64)
    if len(first) < projector_files.FEWEST_POINTS:
        return None
    rows = first[projector.sample(variants.labels[first] * len(Split) + splits[first])]
    points = PhotoPoints(
        prepared.dataset.image_dir,
        [paths[row] for row in rows.tolist()],
        [names[label] for label in variants.labels[rows].tolist()],
        [str(list(Split)[number]) for number in splits[rows].tolist()],
        dict(zip(test.paths, [names[number] for number in test.probabilities.argmax(axis=1).tolist()], strict=True)),
    )
    copies = prepared.extractor.distorter.identity(variants.rows[int(first[0])].copy)
    return projector_files.write(
        chosen.config.summaries_dir,
        points,
        origin=f"{prepared.folder.name} {copies}",
        vectors=lambda: prepared.read(rows),
        decode=functools.partial(_square, prepared.dataset.image_dir),
        seconds=seconds,
    )


def _pixels(pictures: Mapping[str, bytes], paths: Sequence[str]) -> list[np.ndarray | None]:
    """Return the pictures of some photos, uint8 [h, w, 3], None where there is none."""
    files = [io.BytesIO(pictures[path]) if path in pictures else None for path in paths]
    return [np.asarray(Image.open(file, formats=["JPEG"]).convert("RGB")) if file else None for file in files]


def _square(image_dir: Folder, path: str) -> np.ndarray | None:
    """Return the middle of a photo for the projector's sheet, uint8 [s, s, 3], None if it cannot be read."""
    photo, side = read_photo(image_dir, path), projector.PICTURE_SIDE
    try:
        return None if photo.reason else decoding.decode(photo.data, height=side, width=side, keep_aspect_ratio=CROP)
    except ImageError:
        return None
