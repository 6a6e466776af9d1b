"""Everything that heads which have not seen the photos say of them."""

from retrain.doctor import classes, labels, outliers, scoring
from retrain.doctor.findings import Finding
from retrain.doctor.photos import Photos


def check(photos: Photos) -> list[Finding]:
    """Return findings about single photos that seem to be in the wrong class, and about whole classes.

    Raises:
        TrainingError: A training diverged.
    """
    scores = scoring.out_of_fold(photos)
    wrong = labels.check(photos, scores)
    known = {path for finding in wrong for path in finding.photos}
    return [*wrong, *outliers.check(photos, known=known), *classes.check(photos, scores)]
