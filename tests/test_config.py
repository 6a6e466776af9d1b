"""Values that no run could use are refused before the work."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from retrain.cli import flags
from retrain.config import RetrainConfig, check
from retrain.data.dataset import Dataset, Example
from retrain.data.split import Split
from retrain.errors import UsageError
from retrain.plans import check_length

CONFIG = RetrainConfig(Path("photos"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("train_batch_size", 10**12, "at most 1,000,000"),
        ("validation_batch_size", 10**12, "at most 1,000,000"),
        ("test_batch_size", 10**12, "at most 1,000,000"),
        ("fine_tune_batch_size", 10**12, "at most 1,000,000"),
        ("how_many_training_steps", 10**30, "at most 1,000,000,000"),
        ("how_many_epochs", 1e308, "at most 1,000,000,000"),
        ("how_many_epochs", math.nan, "above 0"),
        ("eval_step_interval", 10**30, "at most 1,000,000,000"),
        ("intermediate_store_frequency", 10**30, "at most 1,000,000,000"),
        ("hidden_units", (8, 10**9), "at most 65,536"),
        ("distortion_copies", 10**9, "at most 1,000"),
        ("image_size", 0, "at least 1"),
        ("input_height", 0, "at least 1"),
        ("input_width", 10**5, "at most 10,000"),
        ("input_mean", math.nan, "it must be"),
        ("input_mean", math.inf, "it must be"),
        ("input_std", 0.0, "divided by it"),
        ("input_std", math.nan, "divided by it"),
        ("input_std", math.inf, "divided by it"),
        ("input_std", 1e-50, "divided by it"),
        ("max_accuracy_drop", math.nan, "it must be 0 to 1"),
        ("dropout", math.nan, "below 1"),
        ("fine_tune_from", "", "name a layer"),
        ("l2", math.nan, "at least 0"),
        ("random_crop", math.nan, "it must be 0 to 1000"),
    ],
)
def test_values_that_no_run_could_use_are_refused(name, value, words):
    with pytest.raises(UsageError, match=f"--{name} is .*{words}"):
        check(replace(CONFIG, **{name: value}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"how_many_training_steps": 10**6, "train_batch_size": 256}, None),
        ({"how_many_training_steps": 10**9}, "samples 100,000,000,000 photos"),
        ({"how_many_epochs": 1e9}, "--how_many_epochs with this --train_batch_size samples 3,000,000,000"),
        ({"validation_batch_size": 10**6, "eval_step_interval": 1}, "samples 4,002,000,000 photos"),
        ({"validation_batch_size": -1, "eval_step_interval": 1}, None),
        ({"validation_batch_size": 10**6, "intermediate_store_frequency": 1}, "samples 4,401,000,000 photos"),
        ({"fine_tune_steps": 10**9}, None),
        ({"fine_tune_steps": 10**9, "fine_tune_from": "3"}, None),
    ],
)
def test_a_training_may_not_sample_more_than_memory_holds(values, words):
    examples = tuple(Example(f"a/{n}.png", n % 2, Split.TRAINING) for n in range(3))
    dataset = Dataset(Path("photos"), ("a", "b"), examples)
    config = replace(CONFIG, **values)
    if words is None:
        check_length(config, dataset)
    else:
        with pytest.raises(UsageError, match=words):
            check_length(config, dataset)


@pytest.mark.parametrize(
    ("word", "found"),
    [("10m", 600), ("90s", 90), ("1h30m", 5400), ("600", 600), ("1.5h", 5400), ("2min", 120), ("1H0M1S", 3601)],
)
def test_times_are_read_as_people_write_them(word, found):
    assert flags.seconds(word) == found
