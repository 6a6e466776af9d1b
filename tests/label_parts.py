"""What the tests of labels in parts have in common."""

from pathlib import Path

from retrain.cluster.here import Here
from retrain.inference import prediction
from retrain.inference.lines import CSV, heading, lines_of
from retrain.inference.parts import labelling, work
from retrain.inference.parts.photos import photos_of


def shared_of(model, results, **fields):
    return work.Shared(
        model, results, **{"form": CSV, "k": 2, "min_score": 0.0, "views": 1, "home": Path.cwd(), **fields}
    )


def labelled(shared, words, runner=None, *, listed=(), advance=lambda done, total: None, run="0" * 8):
    """Label what words name, on this machine by default, and return the summary."""
    return labelling.label_into_parts(
        photos_of(words, listed),
        run,
        shared,
        runner or Here(),
        replace=not listed,
        advance=advance,
    )


def parts_in(results):
    return sorted(path.name for path in results.iterdir())


def joined(results, form):
    """Return the lines of all parts in their order, each of which begins with a heading."""
    texts = [(results / name).read_text() for name in parts_in(results)]
    assert all(text.startswith(heading(form)) for text in texts)
    return "".join(text.removeprefix(heading(form)) for text in texts)


def printed(model, words, form):
    """Return the lines that `label_image` prints below its heading."""
    paths = [photo.path for photo in photos_of(words)]
    return "".join(lines_of(each, form) for each in prediction.label(model, paths, k=2))
