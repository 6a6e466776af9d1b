"""What fine-tuning gains over the head alone: the test accuracy of both, mean over the seeds that are given.

Takes the flags of `retrain`, `--fine_tune_from` and `--random_seed 0,1,2` among them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from retrain.cli import console
from retrain.cli import retrain as cli_retrain
from retrain.config import RetrainConfig
from retrain.errors import UsageError


def main(arguments: Sequence[str]) -> int:
    """Train with and without fine-tuning for each seed, and print a line for each and the means."""
    parsed = cli_retrain.parse(arguments)
    if parsed.config.fine_tune_from is None:
        raise UsageError("--fine_tune_from is missing.")
    console.quieten(verbose=False)
    seeds = parsed.choices.get("random_seed", (parsed.config.random_seed,))
    means = {}
    with TemporaryDirectory() as folder:
        for name, start in (("head alone", None), ("fine-tuned", parsed.config.fine_tune_from)):
            accuracies, began = [], time.perf_counter()
            for seed in seeds:
                config = replace(parsed.config, random_seed=seed, fine_tune_from=start)
                accuracies.append(_test_accuracy(config, Path(folder)))
            means[name] = sum(accuracies) / len(seeds)
            percentages = ", ".join(f"{accuracy:.1%}" for accuracy in accuracies)
            seconds = (time.perf_counter() - began) / len(seeds)
            of = f"seeds {', '.join(map(str, seeds))}: {percentages}"
            print(f"{name}: {means[name]:.2%} ({of}), {seconds:.1f} s each", flush=True)
    print(f"gain: {means['fine-tuned'] - means['head alone']:+.2%}")
    return console.DONE


def _test_accuracy(config: RetrainConfig, folder: Path) -> float:
    from retrain.pipeline import retrain
    from retrain.terminal import Terminal

    results = {"output_graph": "g.pb", "output_labels": "l.txt", "summaries_dir": "s", "checkpoint_path": "c"}
    config = replace(config, folds=0, **{name: folder / file for name, file in results.items()})
    with Terminal(results=False) as terminal:
        report = retrain(config, terminal)
    if report.test_accuracy is None:
        raise UsageError("there are no test images to compare on.")
    return report.test_accuracy


if __name__ == "__main__":
    console.run("fine_tuning_gain", main)
