"""`check(config) -> Examination`: looks at photos as a training with these settings would see them."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from retrain import files, grouping, outputs
from retrain.config import RetrainConfig
from retrain.doctor import examining, near_index, page, writing
from retrain.doctor.examining import Examination
from retrain.doctor.photos import Photos, photos_of
from retrain.evaluation.kept import Kept
from retrain.features import photos_to_check, prepare_features, undistorted
from retrain.outputs import Output
from retrain.session import Session
from retrain.terminal import Terminal


@dataclass(frozen=True)
class Written:
    """Where the findings go: the page, and beside it the JSON and the file of marks."""

    page: Path

    @property
    def figures(self) -> Path:
        """Return where the JSON goes."""
        return self.page.with_suffix(".json")

    @property
    def marks(self) -> Path:
        """Return where the marks go."""
        return self.page.with_suffix(".marks.jsonl")


def check(config: RetrainConfig, written: Written, flag: str, terminal: Terminal) -> Examination:
    """Look at the photos of a folder, write what was found, and return it.

    Features are computed where the store lacks them, of the photos themselves: distortions make no difference.

    Args:
        config: The settings of a training: its photos, its network and its seed count.
        written: Where the findings go.
        flag: The flag that decides that.
        terminal: Where to print.

    Raises:
        RetrainError: The user can fix it and run again.
    """
    kinds = {
        written.page: outputs.FINDINGS_PAGE, written.figures: outputs.FINDINGS, written.marks: outputs.MARKS,
    }  # fmt: skip
    outputs.check([Output(path, flag, kind) for path, kind in kinds.items()], {"--image_dir": config.image_dir})
    with ExitStack() as opened:
        opened.enter_context(files.reading_bounded(config.max_file_size))
        photos, folder = opened_photos(undistorted(config), terminal, opened)
        examination = examining.examine(photos, terminal.progress("Checks", "check"))
        shown = page.page_of(examination, Kept(folder), marks=written.marks, folder=written.page.parent)
        files.write_result(written.page, shown)
        files.write_result(written.figures, writing.as_json(examination))
        files.write_result(written.marks, writing.marks_file(examination))
    return examination


def opened_photos(config: RetrainConfig, terminal: Terminal, opened: ExitStack) -> tuple[Photos, Path]:
    """Return the photos with their features, and the folder of the store, which is closed with `opened`."""
    listed = photos_to_check(config, terminal, opened)
    grouping.check(config, listed.dataset)
    near_index.require(len(listed.dataset.examples))  # before hours of computing features
    prepared = prepare_features(config, listed, Session(terminal, opened))
    photos = photos_of(prepared, config.random_seed, terminal.progress("Properties", "photo"))
    if config.group_by:
        photos = replace(photos, dataset=grouping.regrouped(config, photos))
    return photos, prepared.folder
