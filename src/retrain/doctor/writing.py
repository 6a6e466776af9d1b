"""What was found, as JSON and as a file of marks."""

import json
from collections.abc import Sequence
from typing import Any

from retrain.data import marks
from retrain.data.marks import Mark
from retrain.doctor.examining import Examination
from retrain.doctor.findings import Finding


def as_json(examination: Examination) -> bytes:
    """Return an object with all findings, in one line."""
    dataset = examination.photos.dataset
    values = {
        "image_dir": str(dataset.image_dir),
        "photos": len(dataset.examples),
        "classes": len(dataset.class_names),
        "findings": [_values(finding) for finding in examination.findings],
    }
    return f"{json.dumps(values, allow_nan=False)}\n".encode()


def marks_of(findings: Sequence[Finding]) -> list[Mark]:
    """Return what is proposed, each photo once: of several proposals, that of the worst finding."""
    proposed: dict[str, Mark] = {}
    for finding in findings:
        for mark in finding.marks:
            proposed.setdefault(mark.path, mark)
    return list(proposed.values())


def marks_file(examination: Examination) -> bytes:
    """Return the proposals as a file of marks, as `data.marks` reads them."""
    return marks.written(str(examination.photos.dataset.image_dir), marks_of(examination.findings))


def _values(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "sentence": finding.sentence,
        "photos": list(finding.photos),
        "figures": dict(finding.figures),
    }
