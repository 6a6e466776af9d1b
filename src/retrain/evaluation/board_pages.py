"""What a run shows on TensorBoard besides its curves: a summary, photos that went wrong, and how well classes part."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from retrain.data.split import Split
from retrain.evaluation import board_values, metrics
from retrain.evaluation.board_values import Value, escaped
from retrain.evaluation.metrics import Misclassified
from retrain.evaluation.page import words
from retrain.evaluation.report import Report, TestScores

TEST = "test"  # the run that all this is shown in
MOST_PICTURES = 16
MOST_CURVES = 50  # classes, the worst ones
_MOST_ROWS = 20  # of a table


def charts() -> Value:
    """Return the layout by which training and validation share the charts of the custom scalars page."""
    return board_values.layout(
        {"Accuracy": ["accuracy_1"], "Cross entropy": ["cross_entropy_1"]}, title="Training and validation"
    )


def distorted(sheet: np.ndarray, classes: Sequence[str]) -> Value:
    """Return a sheet of distorted copies, uint8 [h, w, 3], whose rows are photos of some classes."""
    rows = ", ".join(map(escaped, classes))
    description = f"A photo of a class in each row, as it is and then as it is distorted; from above: {rows}."
    tag = "distortions/first_column_undistorted"
    encoded = BytesIO()
    Image.fromarray(sheet).save(encoded, "PNG")
    return board_values.picture(tag, encoded.getvalue(), name="distorted training photos", description=description)


def misclassified(photos: Sequence[Misclassified], pictures: Mapping[str, bytes]) -> list[Value]:
    """Return pictures of the test photos that are wrong, most confidently wrong first, labelled.

    Args:
        photos: All that are wrong.
        pictures: JPEGs of photos by their paths; those without are left out.
    """
    worst = sorted(photos, key=lambda photo: (-photo.score, photo.path))[:MOST_PICTURES]
    values = []
    for place, photo in enumerate(worst, start=1):
        if photo.path in pictures:
            description = (
                f"{escaped(photo.path)}: a photo of {escaped(photo.true)}, taken for {escaped(photo.predicted)} "
                f"with a score of {photo.score:.3f}. Number {place} of {len(photos)}, the surest first."
            )
            name = f"{photo.true}, taken for {photo.predicted} ({photo.score:.0%})"
            tag = f"misclassified/{place:02}"
            values.append(board_values.picture(tag, pictures[photo.path], name=name, description=description))
    return values


def pr_curves(report: Report, test: TestScores) -> list[Value]:
    """Return a precision-recall curve of each class that was tested; of very many, those with the smallest F1."""
    values = []
    for class_id in _hardest(report)[:MOST_CURVES]:
        name, count = report.class_names[class_id], report.class_figures[class_id].count
        description = (
            f"Of the photos that are given at least some score for {escaped(name)}, how many are of that class "
            f"(precision); of its {count} test photos, how many are among them (recall)."
        )
        is_true = test.labels == class_id
        scores = test.probabilities[:, class_id]
        values.append(board_values.pr_curve(f"classes/{name}", scores, is_true, name=name, description=description))
    return values


def summary(report: Report) -> Value:
    """Return the text of a run: how good it is, with what settings, which classes are hard and which are confused."""
    facts = ["### Photos and settings", _table(("", ""), _facts(report))]
    parts = [_verdict(report), *_classes(report), *_confusions(report), *facts]
    return board_values.text("summary", "\n\n".join(parts), name="summary", description="The run in figures.")


def _verdict(report: Report) -> str:
    accuracy = "not measured" if report.test_accuracy is None else f"{report.test_accuracy:.1%}"
    sentences = f"{words.accuracy_sentence(report)} {words.roughness(report)}".rstrip()
    return f"### Test accuracy {accuracy}\n\n{sentences}"


def _facts(report: Report) -> list[Sequence[str]]:
    photos = np.sum(report.counts, axis=0).tolist()
    split = ", ".join(f"{count:,} {split}" for count, split in zip(photos, Split, strict=True))
    facts = {
        "photos": f"{sum(photos):,} in {len(report.class_names):,} classes: {split}",
        "network": escaped(report.architecture),
        "steps": f"{report.steps:,}",
        "learning rate": f"{report.learning_rate:g}",
        "random seed": str(report.random_seed),
        **{name: escaped(str(value)) for name, value in report.settings.items()},
    }
    return [(escaped(name), value) for name, value in facts.items()]


def _hardest(report: Report) -> list[int]:
    """Return the ids of the classes that were tested, those with the smallest F1 first."""
    tested = [class_id for class_id, figures in enumerate(report.class_figures) if figures.count]
    return sorted(tested, key=lambda class_id: report.class_figures[class_id].f1)


def _classes(report: Report) -> list[str]:
    hardest = _hardest(report)
    if not hardest:
        return []
    rows = []
    for class_id in hardest[:_MOST_ROWS]:
        figures = report.class_figures[class_id]
        shares = [f"{share:.1%}" if share == share else "" for share in (figures.precision, figures.recall, figures.f1)]
        rows.append((escaped(report.class_names[class_id]), str(figures.count), *shares))
    more = f" (the {_MOST_ROWS} of {len(hardest)} with the smallest F1)" if len(hardest) > _MOST_ROWS else ""
    return [f"### Classes, the hardest first{more}", _table(("class", "photos", "precision", "recall", "F1"), rows)]


def _confusions(report: Report) -> list[str]:
    names = report.class_names
    rows = [
        (escaped(names[true]), escaped(names[predicted]), str(count))
        for true, predicted, count in metrics.confusions(np.array(report.confusion))[:_MOST_ROWS]
    ]
    return ["### Most frequent confusions", _table(("class", "taken for", "photos"), rows)] if rows else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
