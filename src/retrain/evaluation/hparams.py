"""TensorBoard's HParams page: the settings of runs beside what they reached, on all validation photos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrain.evaluation import board_values
from retrain.evaluation.tensorboard import TRAIN, VALIDATION, Summaries

_PART = ".hparams"
_HERE = "."  # the folder of the runs itself
_FINAL = {
    "validation_accuracy": ("final validation accuracy", "Share of all validation photos that the model gets right."),
    "validation_cross_entropy": ("final validation cross entropy", "On all validation photos, in nats."),
    "test_accuracy": ("final test accuracy", "Share of the test photos that the written graph gets right."),
}


def write_hparams(folder: Path, flags: Sequence[str]) -> None:
    """Start the page for a sweep: the settings that the runs in `folder` differ by, and the metrics to compare.

    Raises:
        ExportError: The folder cannot be written.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    metrics = [
        hp.Metric(tag, group=run, display_name=f"{run} {name}")
        for run in (VALIDATION, TRAIN)
        for tag, name in (("accuracy_1", "accuracy"), ("cross_entropy_1", "cross entropy"))
    ]
    with Summaries(folder, runs=(_HERE,), part=_PART) as summaries:
        summaries.add(hp.hparams_config_pb([hp.HParam(flag) for flag in flags], metrics))


def write_trial(folder: Path, name: str, values: Mapping[str, float | str]) -> None:
    """Add a run of a sweep to the page of `folder`, with the values of its settings.

    Raises:
        ExportError: The folder cannot be written.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    with Summaries(folder / name, runs=(_HERE,), part=_PART) as summaries:
        summaries.add(_in_order(hp.hparams_pb(dict(values), trial_id=name)))


def write_single(folder: Path, values: Mapping[str, float | str], figures: Mapping[str, float]) -> Mapping[str, Path]:
    """Write the page of a run that is no sweep, so that several of them in one folder are compared, too.

    Args:
        folder: That of the run.
        values: Of its settings.
        figures: What it reached, by the names in `_FINAL`; those that are missing were not measured.

    Returns:
        The event file, by the run that TensorBoard takes it for.

    Raises:
        ExportError: The folder cannot be written.
    """
    from tensorboard.plugins.hparams import summary_v2 as hp

    points = [
        board_values.scalar(_tag(key), figures[key], name=name, description=description)
        for key, (name, description) in _FINAL.items()
        if key in figures
    ]
    metrics = [hp.Metric(_tag(key), display_name=name) for key, (name, _) in _FINAL.items()]
    # Without a name, which a repeated run would not share: TensorBoard puts runs with the same settings together.
    session: dict[Any, Any] = dict(values)
    with Summaries(folder, runs=(_HERE,), part=_PART) as summaries:
        summaries.add(hp.hparams_config_pb([hp.HParam(flag) for flag in values], metrics, time_created_secs=0))
        summaries.add(_in_order(hp.hparams_pb(session, start_time_secs=0)))
        summaries.add_values(points)
        return summaries.paths


def _tag(figure: str) -> str:
    return f"final/{figure}"


def _in_order(summary: Any) -> Any:
    """Return a summary of a session whose settings are always in the same order, which a map's bytes are not."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for value in summary.value:
        plugin = value.metadata.plugin_data
        plugin.content = HParamsPluginData.FromString(plugin.content).SerializeToString(deterministic=True)
    return summary
