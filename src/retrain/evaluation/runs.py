"""The runs that are kept: each with its record, report, predictions and curves, in a folder of its own."""

import json
import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path

from retrain import files
from retrain.errors import ExportError, RetrainError, UsageError, did_you_mean, first_line
from retrain.evaluation import paired
from retrain.evaluation.paired import PhotoPrediction
from retrain.storage.folders import Folder

FOLDER = "runs"  # beside the graph
RECORD, PREDICTIONS, PAGE, FIGURES = "run.json", "predictions.csv", "report.html", "report.json"
_FORMAT = "retrain run 1"  # `make clean` knows our records by it
_LONGEST_NAME = 100
_NOT_IN_NAMES = '/\\:*?"<>|'  # on one system or another
NAMES = (
    f"a name has 1 to {_LONGEST_NAME} letters, digits, spaces and signs, none of {' '.join(_NOT_IN_NAMES)}; it begins "
    "with no full stop or hyphen, and ends with no full stop or space"
)
_RECORD_AT_MOST, _PREDICTIONS_AT_MOST = 2**24, 2**30  # bytes


@dataclass(frozen=True)
class RunRecord:
    """What a run was: its command, settings and versions, and how good its model is.

    `started` is local time to the millisecond, ISO 8601 with its offset: the order of runs, two of which may begin in
    one second. `seconds` counts from there until everything was written.
    `settings` are those that were not left at their defaults. `photos` counts all images, `test_count` those of the
    test, of which `test_accuracy` is the share that the written graph got right, None without any. `cross_validation`
    is the mean of the folds' accuracies and their standard deviation, empty without folds.
    """

    started: str
    seconds: float
    command: Sequence[str]
    image_dir: str
    architecture: str
    classes: Sequence[str]
    photos: int
    steps: int
    random_seed: int
    test_accuracy: float | None
    test_interval: Sequence[float]
    test_count: int
    graph_sha256: str | None
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    cross_validation: Sequence[float] = ()

    def to_json(self) -> str:
        """Return the record as JSON that people can read, too."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "RunRecord":
        """Return what `to_json` wrote; fields that a later version added are passed over.

        Raises:
            ValueError: Not such JSON.
        """
        try:
            content = json.loads(text)
        except RecursionError as error:
            raise ValueError("no record of a run") from error
        if not isinstance(content, dict) or not str(content.get("format", "")).startswith("retrain run "):
            raise ValueError("no record of a run")
        row = {each.name: content[each.name] for each in fields(cls) if each.name in content}
        try:
            record = cls(**row)
            record._check()
        except TypeError as error:
            raise ValueError("a field is missing, or has another type") from error
        return record

    def _check(self) -> None:
        """Refuse values of other types than those that are shown."""
        texts = (self.started, self.image_dir, self.architecture, *self.classes)
        counts = (self.photos, self.steps, self.test_count, self.random_seed)
        shares = [self.seconds, *([] if self.test_accuracy is None else [self.test_accuracy]), *self.cross_validation]
        numbers = all(isinstance(share, int | float) for share in shares) and len(self.cross_validation) in (0, 2)
        settings = isinstance(self.settings, dict)
        if not (
            all(isinstance(t, str) for t in texts) and all(isinstance(n, int) for n in counts) and numbers and settings
        ):
            raise ValueError("a field has another type")


@dataclass(frozen=True)
class Run:
    """A run that is kept: its name, its folder and its record."""

    name: str
    folder: Path
    record: RunRecord


def folder_of(graph: Path) -> Path:
    """Return the folder of the runs that wrote a graph."""
    return graph.with_name(FOLDER)


def is_name(name: str) -> bool:
    """Return whether a run may have a name, which is that of a folder on every system."""
    odd = any(c in _NOT_IN_NAMES or not (c.isprintable() or unicodedata.category(c) == "Zs") for c in name)
    ends = name[:1] in (".", "-") or name[-1:] in (".", " ")
    return bool(name.strip()) and not odd and not ends and len(name.encode()) <= _LONGEST_NAME


def check(folder: Path, name: str | None, image_dir: Folder) -> None:
    """Fail now, not after the training, where a run cannot be kept under its name.

    Raises:
        ExportError: The folder cannot be written.
        UsageError: There is such a run, or the folder is that of the photos.
    """
    if isinstance(image_dir, Path) and os.path.realpath(folder) == os.path.realpath(image_dir):
        raise UsageError(f"runs would be kept in {folder}, among the photos. Give an --output_graph in another folder.")
    if name is not None and os.path.lexists(folder / name):
        raise UsageError(
            f"--run_name is {name!r}, and there is such a run. Give another name, or delete {folder / name} first."
        )
    files.check_writable(folder / RECORD)
    files.remove_stale_drafts(folder)


def keep(folder: Path, name: str | None, record: RunRecord, contents: Mapping[str, bytes | Path]) -> Path:
    """Keep a run, whole or not at all, and return its folder; where its name is taken meanwhile, a number is added.

    Args:
        folder: The folder of all runs.
        name: Its name; by default the time when it started.
        record: What it was.
        contents: File name, with folders, -> what it holds, or a file to link or copy; one that is gone is left out.

    Raises:
        ExportError: It cannot be written.
    """
    wanted = name or datetime.fromisoformat(record.started).strftime("%Y-%m-%d_%H-%M-%S")
    with files.draft_folder(folder / wanted) as draft:
        try:
            for path, content in {**contents, RECORD: record.to_json().encode()}.items():
                _put(draft / path, content)
            return _put_in_place(draft, folder, wanted)
        except OSError as error:
            raise ExportError(
                f"cannot keep the run in {folder}: {error.strerror}. Free some space; the model itself is written."
            ) from error


def _put(path: Path, content: bytes | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    try:
        os.link(content, path)
    except FileNotFoundError:  # another run with the same --summaries_dir has replaced it
        return
    except OSError:  # another file system, or one without links
        shutil.copyfile(content, path)


def _put_in_place(draft: Path, folder: Path, wanted: str) -> Path:
    number = 1
    while True:
        target = folder / (wanted if number == 1 else f"{wanted}-{number}")
        number += 1
        if os.path.lexists(target):
            continue
        try:
            return draft.rename(target)
        except OSError:
            if not os.path.lexists(target):  # no other run was quicker
                raise


def kept(folder: Path) -> Iterator[Run | RetrainError]:
    """Yield the runs in a folder in the order of their starts, and an error for each that cannot be read."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{RECORD}") if not path.parent.name.startswith("."))
    runs: list[Run] = []
    for name in names:
        try:
            runs.append(read(folder / name))
        except RetrainError as error:
            yield error
    yield from sorted(runs, key=lambda run: (_instant(run.record.started), run.name))


def find(folder: Path, name: str) -> Run:
    """Return the run of a name, or in a folder of its own that is named.

    Raises:
        RetrainError: There is none, or it cannot be read.
    """
    for path in (folder / name, Path(name)):
        if is_name(path.name) and (path / RECORD).is_file():
            return read(path)
    names = sorted(path.parent.name for path in folder.glob(f"*/{RECORD}"))
    raise RetrainError(f"there is no run {name!r} in {folder}.{did_you_mean(name, names)} `retrain runs` lists all.")


def read(folder: Path) -> Run:
    """Return the run that is kept in a folder.

    Raises:
        RetrainError: Its record cannot be read.
    """
    try:
        record = RunRecord.from_json(files.read_regular(folder / RECORD, _RECORD_AT_MOST))
        _instant(record.started)
    except (OSError, ValueError) as error:
        raise _unreadable(folder / RECORD, error) from error
    return Run(folder.name, folder, record)


def predictions(run: Run) -> list[PhotoPrediction]:
    """Return what a run said of its test photos.

    Raises:
        RetrainError: They cannot be read.
    """
    path = run.folder / PREDICTIONS
    try:
        return paired.decode(files.read_regular(path, _PREDICTIONS_AT_MOST))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> RetrainError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return RetrainError(f"cannot read {path}: {reason}. Delete {path.parent}, or train again.")


def _instant(started: str) -> datetime:
    """Return when a run started, comparable with any other."""
    moment = datetime.fromisoformat(started)
    return moment if moment.tzinfo else moment.astimezone()
