"""Answers a word that a command does not know with the flag that is probably meant."""

from collections.abc import Iterable

from retrain.errors import did_you_mean

# What other tools call it -> what it is called here; of several, those that the command has.
_CALLED_ELSEWHERE = {
    "backbone": "architecture",
    "base_model": "architecture",
    "batch": "train_batch_size",
    "batch_size": "train_batch_size",
    "cache_dir": "bottleneck_dir",
    "checkpoint": "checkpoint_path",
    "classes": "output_labels labels",
    "cross_validation": "folds",
    "cv": "folds",
    "data": "image_dir",
    "data_dir": "image_dir",
    "dataset": "image_dir",
    "directory": "image_dir",
    "epochs": "how_many_epochs",
    "exports": "export",
    "file": "image",
    "folder": "image_dir",
    "format": "export",
    "formats": "export",
    "fine_tune": "fine_tune_from",
    "finetune": "fine_tune_from",
    "flip": "flip_left_right",
    "img": "image",
    "img_size": "image_size input_height",
    "image_folder": "image_dir",
    "images": "image_dir image",
    "input": "image_dir image",
    "input_dir": "image_dir",
    "input_shape": "image_size input_height",
    "input_size": "image_size input_height",
    "iterations": "how_many_training_steps",
    "k": "top_k",
    "layers": "hidden_units",
    "letterbox": "keep_aspect_ratio",
    "log_dir": "summaries_dir",
    "logdir": "summaries_dir",
    "lr": "learning_rate",
    "lr_schedule": "learning_rate_schedule",
    "marks": "apply_marks",
    "max_steps": "how_many_training_steps",
    "max_time": "time_limit",
    "model": "architecture graph",
    "model_name": "architecture graph",
    "n_splits": "folds",
    "name": "run_name",
    "net": "architecture",
    "network": "architecture",
    "num_epochs": "how_many_epochs",
    "num_steps": "how_many_training_steps",
    "opt": "optimizer",
    "out_dir": "output_graph",
    "output_dir": "output_graph",
    "patience": "early_stopping_patience",
    "photo": "image",
    "photos": "image_dir image",
    "pretrained": "architecture weights",
    "quiet": "logging_verbosity",
    "resolution": "image_size",
    "rotation": "random_rotation",
    "schedule": "learning_rate_schedule",
    "seed": "random_seed",
    "size": "image_size input_height",
    "steps": "how_many_training_steps",
    "tensorboard": "summaries_dir",
    "test_split": "testing_percentage",
    "threshold": "min_score",
    "timeout": "time_limit",
    "top": "top_k",
    "topk": "top_k",
    "train_dir": "image_dir",
    "train_steps": "how_many_training_steps",
    "training_steps": "how_many_training_steps",
    "tta": "views",
    "undo": "undo_marks",
    "val_split": "validation_percentage",
    "validation_split": "validation_percentage",
    "weight_decay": "l2",
    "zoom": "random_zoom",
}


def meant(flag: str, flags: Iterable[str]) -> str | None:
    """Return the one of some flags that has another name in other tools, None where `flag` is no such name."""
    names = _CALLED_ELSEWHERE.get(flag.lstrip("-").replace("-", "_").casefold(), "").split()
    known = set(flags)
    return next((f"--{name}" for name in names if f"--{name}" in known), None) if flag.startswith("--") else None


def suggestion(flag: str, flags: Iterable[str]) -> str:
    """Return " Did you mean --a or --b?" with those of some flags that an unknown one may mean; "" for none."""
    known = list(flags)
    if other := meant(flag, known):
        return f" Did you mean {other}?"
    return did_you_mean(flag.replace("-", "_").replace("__", "--", 1), known, count=2)
