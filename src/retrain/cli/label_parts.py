"""`label_image --results`: labels very many images into parts, on this machine or on a cluster."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from retrain.cli.console import DONE, FAILED
from retrain.config import check_value
from retrain.data import image_files
from retrain.errors import UsageError, plural

if TYPE_CHECKING:
    from retrain.cluster.here import Here
    from retrain.cluster.opening import LazyCluster
    from retrain.formats.classifier import Classifier
    from retrain.inference.parts.work import Shared
    from retrain.terminal import Terminal

_CLUSTER = ("cluster", "cluster_min", "cluster_max")


def check(args: Namespace) -> None:
    """Refuse flags that make no sense together.

    Raises:
        UsageError: Says what to give instead.
        ClusterError: Ray is missing.
        ExportError: The results cannot be written there.
    """
    if args.results is None:
        flag = next((name for name in _CLUSTER if getattr(args, name) is not None), "")
        if flag:
            raise UsageError(f"--{flag} goes with --results. Give --results a folder or a URL, and --csv or --json.")
        return
    if args.cluster is None and (args.cluster_min is not None or args.cluster_max is not None):
        raise UsageError("--cluster_min and --cluster_max go with --cluster. Give --cluster auto, or HOST:PORT.")
    if args.sort_into:
        raise UsageError("--sort_into copies images on this machine, and --results writes labels. Give one of them.")
    if not (args.csv or args.json):
        raise UsageError("--results has parts of CSV or of JSON lines. Give --csv or --json, too.")
    for name in _CLUSTER:
        check_value(name, getattr(args, name))
    if None not in (args.cluster_min, args.cluster_max) and args.cluster_min > args.cluster_max:
        raise UsageError(f"--cluster_min {args.cluster_min} is more than --cluster_max {args.cluster_max}.")
    if args.cluster is not None:
        from retrain.cluster.starting import check_address, require_ray

        check_address(args.cluster)
        require_ray()
    if isinstance(args.results, Path):
        from retrain import outputs

        outputs.check([outputs.Output(args.results, "--results")], {})


def run(args: Namespace, model: "Classifier", words: Sequence[str]) -> int:
    """Label the images into parts, say how many, and return the exit code, 1 if an image could not be read."""
    from retrain.inference.parts import labelling
    from retrain.inference.parts.photos import folders_of, photos_of
    from retrain.terminal import Terminal

    named = [word for word in words if word != image_files.STANDARD_INPUT]
    listed = image_files.read_paths(sys.stdin.buffer) if len(named) < len(words) else ()
    shared = _shared(args, model, folders_of(named))
    places = [*words, *(image_files.named(word).absolute() for word in named)]  # as lines have them, and where they are
    with Terminal() as terminal, ExitStack() as opened:
        summary = labelling.label_into_parts(
            photos_of(named, listed),
            labelling.run_id(model, shared, places),
            shared,
            _runner(args, terminal, opened),
            replace=not listed,
            advance=terminal.progress("Labelling", "image"),
        )
    terminal.say_all(summary.lines(args.results))
    if not summary.unreadable:
        return DONE
    lines = "its line says why" if summary.unreadable == 1 else "their lines say why"
    terminal.error("label_image", f"{plural(summary.unreadable, 'photo')} could not be read: {lines}")
    return FAILED


def _shared(args: Namespace, model: "Classifier", folders: Sequence[Path]) -> "Shared":
    from retrain.inference import lines
    from retrain.inference.parts.work import Shared, shipped

    return Shared(
        model if args.cluster is None else shipped(model),
        args.results.absolute(),
        form=lines.JSON if args.json else lines.CSV,
        k=args.top_k,
        min_score=args.min_score,
        views=args.views,
        home=Path.cwd(),
        folders=folders,
        largest=args.max_file_size,
    )


def _runner(args: Namespace, terminal: "Terminal", opened: ExitStack) -> "LazyCluster | Here":
    if args.cluster is None:
        from retrain.cluster.here import Here

        return Here()
    from retrain.cluster.opening import ClusterRequest, LazyCluster

    return LazyCluster(ClusterRequest(args.cluster, args.cluster_min, args.cluster_max), terminal, opened)
