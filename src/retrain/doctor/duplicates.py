"""Photos that are there more than once, and those of them that lie in several classes."""

from collections.abc import Sequence

from retrain.data.marks import Action, Mark
from retrain.data.split import Split
from retrain.doctor.copies import Copies
from retrain.doctor.findings import Finding, Kind
from retrain.doctor.photos import Photos
from retrain.errors import plural, printable

_KEPT_FIRST = (Split.TESTING, Split.VALIDATION, Split.TRAINING)  # what is measured on stays comparable


def check(photos: Photos, copies: Copies) -> list[Finding]:
    """Return at most two findings: photos in several classes at once, and superfluous photos of one class."""
    same: list[list[int]] = []
    contradicting: list[list[int]] = []
    for group in copies.groups:
        classes = {int(photos.labels[number]) for number in group}
        (same if len(classes) == 1 else contradicting).append(list(group))
    findings = []
    if contradicting:
        findings.append(_in_several_classes(photos, contradicting))
    if same:
        findings.append(_superfluous(photos, copies, same))
    return findings


def _in_several_classes(photos: Photos, groups: Sequence[list[int]]) -> Finding:
    paths = [_paths(photos, group) for group in groups]
    sentence = (
        f"{plural(len(groups), 'photo')} lie{'s' if len(groups) == 1 else ''} in several classes at once, as copies, "
        f"such as {' and '.join(_of_two_classes(photos, groups[0]))}. Leave each in the class that is right."
    )
    listed = [path for group in paths for path in group]
    return Finding(
        Kind.LABEL,
        min(1.0, 0.6 + 10 * len(listed) / len(photos.labels)),
        printable(sentence),
        listed,
        {"groups": paths},
    )


def _of_two_classes(photos: Photos, group: Sequence[int]) -> list[str]:
    first = group[0]
    return _paths(photos, [first, next(each for each in group if photos.labels[each] != photos.labels[first])])


def _superfluous(photos: Photos, copies: Copies, groups: Sequence[list[int]]) -> Finding:
    examples = photos.dataset.examples
    kept = [min(group, key=lambda number: (_KEPT_FIRST.index(examples[number].split), number)) for group in groups]
    extra = [[number for number in group if number != keep] for group, keep in zip(groups, kept, strict=True)]
    paths = [path for group in extra for path in _paths(photos, group)]
    exact = sum(len(group) - len({int(copies.content[number]) for number in group}) for group in groups)
    verb = "is a copy of another" if len(paths) == 1 else "are copies of others"
    sentence = (
        f"{plural(len(paths), 'photo')} {verb}, such as {paths[0]} of "
        f"{examples[kept[0]].path}. Remove {'it' if len(paths) == 1 else 'them'}: the same photo again teaches nothing."
    )
    figures = {"copies": len(paths), "exact": exact, "groups": [_paths(photos, group) for group in groups]}
    marks = [Mark(path, Action.REMOVE) for path in paths]
    severity = min(0.5, 0.1 + len(paths) / len(photos.labels))
    return Finding(Kind.DUPLICATE, severity, printable(sentence), paths, figures, marks)


def _paths(photos: Photos, numbers: Sequence[int]) -> list[str]:
    return [photos.dataset.examples[number].path for number in numbers]
