"""Test photos whose own label is likelier wrong than right, by what the trained model says of them."""

import numpy as np

from retrain.data.marks import Action, Mark
from retrain.doctor import labels
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import plural, printable

_DOUBT = 0.8
_FEWEST = 2  # photos: one alone is what a good model gets wrong


def check(photos: Photos, numbers: np.ndarray, probabilities: np.ndarray) -> list[Finding]:
    """Return a finding that names them, and says the test accuracy with and without their labels, or none.

    A model has not seen its test photos. So its scores say of their labels what those of `scoring` say of all: they
    cost nothing. But there are fewer of them, so a label must be doubted more to be named.

    Args:
        photos: All photos.
        numbers: int64 [n], the test photos, each once.
        probabilities: float32 [n, C], what the model says of them.
    """
    true = photos.labels[numbers]
    found = labels.suspects(probabilities, true, doubt=_DOUBT)
    if len(found.numbers) < _FEWEST:
        return []
    examples, names = photos.dataset.examples, photos.dataset.class_names
    paths = [examples[number].path for number in numbers[found.numbers].tolist()]
    looks = [names[class_id] for class_id in found.classes.tolist()]
    corrected = true.copy()
    corrected[found.numbers] = found.classes
    predicted = probabilities.argmax(axis=1)
    accuracy, without = float(np.mean(predicted == true)), float(np.mean(predicted == corrected))
    sentence = (
        f"{len(paths)} of {plural(len(numbers), 'test photo')} are likely in the wrong class, most of all "
        f"{printable(paths[0])}, which looks like {printable(looks[0])}: the test accuracy is {accuracy:.1%}, and "
        f"{without:.1%} if all of them are. Look at them, and relabel those that are wrong."
    )
    suspects = [
        {"path": path, "looks_like": name, "doubt": round(doubt, 4)}
        for path, name, doubt in zip(paths, looks, found.doubt.tolist(), strict=True)
    ]
    figures = {"photos": len(numbers), "accuracy": accuracy, "accuracy_if_wrong": without, "test_suspects": suspects}
    marks = [Mark(path, Action.RELABEL, name) for path, name in zip(paths, looks, strict=True)]
    severity = min(1.0, 0.3 + 7 * len(paths) / len(numbers))
    return [Finding(Kind.LABEL, severity, sentence, paths, figures, marks)]
