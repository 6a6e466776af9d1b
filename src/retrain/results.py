"""What a run will write where; refused before the work where that would cost the user a file."""

import re
from collections.abc import Sequence
from pathlib import Path

from retrain import outputs
from retrain.candidates import IntermediateFiles, intermediate_files
from retrain.config import RetrainConfig
from retrain.evaluation import report as reports
from retrain.evaluation import runs
from retrain.formats import saved_model
from retrain.formats import table as formats
from retrain.formats.checkpoint import CheckpointFiles
from retrain.outputs import Output
from retrain.sweep import Trial


def check(config: RetrainConfig) -> None:
    """Fail now, not after the training, where a result cannot be written or would cost the user a file."""
    if config.saved_model_dir:
        saved_model.check(config.saved_model_dir)
    photos = config.image_dir if isinstance(config.image_dir, Path) else None
    inputs = {"--image_dir": photos, "--weights": config.weights, "--tfhub_module": config.tfhub_module}
    inputs |= {"--architecture": config.architecture}
    outputs.check(planned(config), {flag: Path(path) for flag, path in inputs.items() if path and Path(path).exists()})
    runs.check(runs.folder_of(config.output_graph), config.run_name, config.image_dir)
    formats.check_owners(config.output_graph, "--output_graph")
    formats.check_targets(config.output_graph, config.export)


def planned(config: RetrainConfig) -> list[Output]:
    """Return everything that a run writes."""
    graph, own = config.output_graph, intermediate_files(config, Trial("", {}))
    page, figures = reports.report_paths(graph)
    rows = [
        formats.graph_output(graph, "--output_graph"),
        Output(formats.path_of(graph, "tflite"), "--output_graph", outputs.LITERT),
        Output(page, "--output_graph", outputs.PAGE),
        Output(figures, "--output_graph", outputs.JSON),
        Output(config.output_labels, "--output_labels", outputs.TEXT),
        *_checkpoint_outputs(own.checkpoint),
        Output(config.summaries_dir, "--summaries_dir"),
        Output(config.store_dir, "--bottleneck_dir"),
        Output(runs.folder_of(graph), "--output_graph"),
        *formats.export_outputs(graph, [name for name in config.export if name != "tflite"]),
    ]
    if config.fine_tune_from:
        rows.append(Output(own.fine_tuning(""), "--checkpoint_path", outputs.ARCHIVE))
    if config.saved_model_dir:
        rows.append(Output(config.saved_model_dir, "--saved_model_dir", whole=True))
    if config.intermediate_store_frequency:
        rows += _intermediate_outputs(config, own, rows)
    return rows


def _intermediate_outputs(config: RetrainConfig, own: IntermediateFiles, others: Sequence[Output]) -> list[Output]:
    """Return the folder of the intermediate graphs, and those of them that may meet an old file or another output."""
    folder, flag = own.graphs, "--intermediate_output_graphs_dir"
    names = {path.name for path in folder.glob("intermediate_*.pb")} | {p for row in others for p in row.path.parts}
    matches = [match for name in sorted(names) if (match := re.fullmatch(r"intermediate_(\d+)\.pb", name))]
    steps = [int(match[1]) for match in matches if int(match[1]) % config.intermediate_store_frequency == 0]
    return [Output(folder, flag), *(Output(own.graph(step), flag, outputs.GRAPH) for step in steps)]


def _checkpoint_outputs(files: CheckpointFiles) -> list[Output]:
    if not files.tensorflow:
        return [Output(path, "--output_graph", outputs.ARCHIVE) for path in files.paths]
    listed = Output(files.prefix.with_name("checkpoint"), "--checkpoint_path", outputs.TEXT)
    return [*(Output(path, "--checkpoint_path", outputs.ANY) for path in files.paths), listed]
