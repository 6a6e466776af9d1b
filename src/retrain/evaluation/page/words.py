"""The sentences of a page, each made from the figures of a report."""

import math

from retrain.errors import plural
from retrain.evaluation import folds
from retrain.evaluation.metrics import Calibration
from retrain.evaluation.report import Report

_FEWEST_SCORES = 30  # from which anything follows


def accuracy_sentence(report: Report) -> str:
    """Return the accuracy and its interval in words that need no statistics."""
    if report.test_accuracy is None:
        return "How good it is was not measured: there are no test photos."
    low, high = (round(100 * end) for end in (report.test_interval.low, report.test_interval.high))
    photos = f"{report.test_photos:,} test photo{'' if report.test_photos == 1 else 's'}"
    return (
        f"Of 100 new photos like these, about {round(100 * report.test_accuracy)} would be right; with {photos}, the "
        f"true share probably lies between {low} and {high}."
    )


def roughness(report: Report) -> str:
    """Return what to know about the accuracy of a small test, "" about that of a large one."""
    if report.test_accuracy is None or report.test_photos >= folds.ENOUGH:
        return ""
    result = report.cross_validation
    if result is None:
        return "That is a small test: --folds 5 tests on all photos."
    low, high, count = min(result.accuracies), max(result.accuracies), len(result.accuracies)
    alone = " of the last layer alone" if result.last_layer_only else ""
    return (
        f"That is a small test. A {count}-fold cross-validation{alone}, which tests on all {result.photos:,} photos, "
        f"gives {result.accuracy:.1%}, and {low:.1%} to {high:.1%} on each fold."
    )


def strengths(report: Report) -> list[str]:
    """Return what a model is good at and what it confuses, a sentence each; none without test photos."""
    rows = [(row, number) for number, row in enumerate(report.class_figures) if row.count]
    if report.test_accuracy is None or not rows:
        return []
    weak, worst = min(rows, key=lambda pair: (pair[0].recall, -pair[0].count))
    name = report.class_names[worst]
    if len(rows) == 1:
        return [f"{name} is the only class with test photos: {_found(report, worst)}{_taken_for(report, worst)}."]
    if weak.recall == 1.0:
        tested = "every class" if len(rows) == len(report.class_names) else "every class that has some"
        return [f"It got all {plural(report.test_count, 'test photo')} right, in {tested}."]
    better = [pair for pair in rows if pair[0].recall > weak.recall]
    if not better:
        return [f"It is as good at one class as at another: {weak.recall:.0%} of each found."]
    _, best = max(better, key=lambda pair: (pair[0].interval.low, pair[0].recall))
    good = f"It is best at {report.class_names[best]}: {_found(report, best)}."
    return [good, f"It is weakest at {name}: {_found(report, worst)}{_taken_for(report, worst)}."]


def never_said(report: Report) -> list[str]:
    """Return the classes of test photos that the model gives no photo."""
    said = [sum(column) for column in zip(*report.confusion, strict=True)]
    return [
        name
        for name, figures, count in zip(report.class_names, report.class_figures, said, strict=True)
        if figures.count and not count
    ]


def _found(report: Report, class_id: int) -> str:
    row = report.confusion[class_id]
    return f"{row[class_id]} of {sum(row)} found"


def _taken_for(report: Report, class_id: int) -> str:
    """Return the class that photos of a class are most often taken for."""
    others = [(count, -number) for number, count in enumerate(report.confusion[class_id]) if number != class_id]
    count, number = max(others, default=(0, 0))
    return f", {count} taken for {report.class_names[-number]}" if count else ""


def calibration_sentence(found: Calibration) -> str:
    """Return whether the scores of a model can be believed."""
    score, accuracy = f"{found.score:.0%}", f"{found.accuracy:.0%}"
    error = f"Expected calibration error: {100 * found.error:.1f} points over {plural(found.count, 'photo')}."
    chance = 2 * math.sqrt(max(found.accuracy * (1 - found.accuracy), 1 / found.count) / found.count)
    difference = found.score - found.accuracy
    if found.count < _FEWEST_SCORES:
        verdict = "so few photos cannot show whether its scores can be believed"
    elif abs(difference) <= chance:
        verdict = "its scores can be believed, as far as so many photos can show"
    elif difference > 0:
        verdict = "it is surer than it should be"
    else:
        verdict = "it is better than its scores say"
    return f"On average it was {score} sure, and {accuracy} of its answers were right: {verdict}. {error}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: "33 s", "4 min 10 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def value(setting: object) -> str:
    """Return the value of a setting in short."""
    if isinstance(setting, list | tuple):  # a record has lists
        return " ".join(map(str, setting))
    return f"{setting:g}" if isinstance(setting, float) else str(setting)
