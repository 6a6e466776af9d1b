import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import command

from retrain.errors import TrainingError
from retrain.head import softmax
from retrain.training import chunks, head_training, held_out, sampling
from retrain.training.head_training import TrainingData
from retrain.training.recipe import OPTIMIZERS, HeadRecipe, TrainingPlan


def gaussians(count, classes=3, dimension=8, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    means = rng.normal(size=(classes, dimension)) * 6
    return (means[labels] + rng.normal(size=(count, dimension)) * spread).astype(np.float32), labels.astype(np.int64)


def planned(**options):
    defaults = {"steps": 200, "batch_size": 32, "validation_batch_size": 20, "eval_step_interval": 10, "seed": 0}
    return TrainingPlan(**{**defaults, **options})


def sampled(labels, plan, validation=()):
    return sampling.sample_training(labels, np.arange(len(labels)), np.array(validation, np.int64), plan)


def fit(vectors, labels, **options):
    return trained(vectors, labels, **options).head


def trained(vectors, labels, *, learning_rate=0.05, recipe=None, gather=None, **options):
    report, validation = options.pop("report", lambda result: None), options.pop("validation", ())
    plan = planned(**options)
    data = TrainingData(gather or (lambda rows: vectors[rows].copy()), labels, np.arange(len(labels)), labels.max() + 1)
    recipe = replace(recipe or HeadRecipe(), learning_rate=learning_rate)
    return head_training.train(data, sampled(labels, plan, validation), recipe, plan, report=report)


def test_well_separated_classes_are_learnt():
    vectors, labels = gaussians(300)
    # The means lie far beyond six deviations apart: a linear head must be right almost always.
    assert (fit(vectors, labels).probabilities(vectors).argmax(1) == labels).mean() > 0.99


def test_random_labels_are_not_learnt():
    vectors, labels = gaussians(600)
    shuffled = np.random.default_rng(2).permutation(labels)
    head = fit(vectors[:300], shuffled[:300])
    right = (head.probabilities(vectors[300:]).argmax(1) == shuffled[300:]).mean()
    # New photos of the same classes with labels that say nothing: five standard deviations around one in three.
    assert right == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / 300))


def test_the_first_loss_is_ln_of_the_class_count():
    segments = []
    fit(*gaussians(60, classes=5), steps=5, report=segments.append)
    assert segments[0].series["cross_entropy"][0] == pytest.approx(math.log(5), abs=1e-6)


def test_the_scale_and_offset_of_the_bottlenecks_do_not_matter():
    vectors, labels = gaussians(200)
    head, moved = fit(vectors, labels), fit(vectors * 50 + 7, labels)
    assert head.probabilities(vectors) == pytest.approx(moved.probabilities(vectors * 50 + 7), abs=1e-3)


def test_a_constant_dimension_does_no_harm():
    vectors, labels = gaussians(100)
    vectors[:, 3] = 5
    assert np.isfinite(fit(vectors, labels).last.weights).all()


def test_features_that_differ_by_rounding_alone_get_no_giant_weights():
    vectors, labels = gaussians(100)
    noise = np.float32(0.005) * (1 + np.sign(vectors) * np.float32(1e-7))
    head = fit(noise.astype(np.float32), labels)
    # Larger ones would make of rounding errors in the features, 1e-7 of 0.005, differences that count.
    assert np.abs(head.last.weights).max() < 1e7


@pytest.mark.parametrize("l2", [None, 0.0, 0.5])
def test_a_step_is_plain_gradient_descent_on_the_mean_cross_entropy_and_the_penalty_of_weights(l2):
    vectors, labels = gaussians(40)
    factor = math.sqrt(8) / (2 * 0.2 * 40) if l2 is None else l2
    options = {"steps": 3, "batch_size": 16, "eval_step_interval": 1, "seed": 5}
    variance = vectors.var(0)
    scaled = (vectors - vectors.mean(0)) / np.sqrt(variance + 1e-3 * variance.mean())
    weights, biases = np.zeros((8, 3)), np.zeros(3)
    for batch in sampled(labels, planned(**options)).batches:
        surplus = softmax(scaled[batch] @ weights + biases) - np.eye(3)[labels[batch]]
        weights -= 0.1 * (scaled[batch].T @ surplus / 16 + 2 * factor * weights)
        biases -= 0.1 * surplus.mean(0)
    head = fit(vectors, labels, learning_rate=0.1, recipe=HeadRecipe(l2=l2), **options)
    assert head.probabilities(vectors) == pytest.approx(softmax(scaled @ weights + biases), abs=1e-4)


def test_the_shrinkage_is_one_prior_for_any_number_of_photos_and_no_step_overshoots():
    few, many = (head_training.shrinkage(HeadRecipe(), 1000, examples) for examples in (1000, 4000))
    assert few == 4 * many > 0  # the sum over all photos weighs it alike
    assert 2 * 100.0 * head_training.shrinkage(HeadRecipe(learning_rate=100.0), 1000, 10) <= 0.5
    assert head_training.shrinkage(HeadRecipe(hidden_units=(8,)), 1000, 1000) == 0
    assert head_training.shrinkage(HeadRecipe(l2=0.0), 1000, 1000) == 0


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    vectors, labels = gaussians(100)
    one, two, other = (fit(vectors, labels, seed=seed).last.weights.tobytes() for seed in (1, 1, 2))
    assert one == two != other


def test_gathering_in_small_parts_changes_nothing(monkeypatch):
    vectors, labels = gaussians(500)
    whole = fit(vectors, labels, validation=np.arange(50))
    monkeypatch.setattr(chunks, "SHARED_BYTES", 0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * 8 * 100)
    divided = fit(vectors, labels, validation=np.arange(50))
    assert whole.last.weights == pytest.approx(divided.last.weights, abs=1e-6)


@pytest.mark.parametrize("size", [-1, 20])
@pytest.mark.parametrize("recipe", [HeadRecipe(), HeadRecipe(hidden_units=(8,), optimizer="adam")])
def test_validation_in_blocks_gives_the_same_head_and_the_same_figures(monkeypatch, size, recipe):
    vectors, labels = gaussians(400, spread=4.0)
    options = {"recipe": recipe, "validation": np.arange(60), "validation_batch_size": size, "patience": 30}
    whole, sizes = trained(vectors, labels, **options), []
    monkeypatch.setattr(held_out, "HELD_OUT_BYTES", 0)
    monkeypatch.setattr(held_out, "_AT_ONCE", 7)
    monkeypatch.setattr(chunks, "SHARED_BYTES", 0)

    def gather(rows):
        sizes.append(len(rows))
        return vectors[rows].copy()

    parts = trained(vectors, labels, gather=gather, **options)
    assert (parts.step, len(parts.history)) == (whole.step, len(whole.history))
    assert parts.head.last.weights == pytest.approx(whole.head.last.weights, abs=1e-5)
    for one, other in zip(parts.history, whole.history, strict=True):
        assert vars(one) == pytest.approx(vars(other), abs=1e-4)
    assert sizes.count(7) == len(parts.history) * ((60 if size < 0 else size) // 7)


def test_every_class_is_drawn_equally_often_however_rare():
    labels = np.array([0] * 990 + [1] * 10)
    samples = sampled(labels, planned(steps=100, batch_size=100))
    # Five standard deviations of a fair coin thrown 10,000 times.
    assert labels[samples.batches].mean() == pytest.approx(0.5, abs=5 * 0.5 / 100)


@pytest.mark.parametrize(
    ("steps", "interval", "expected"),
    [(25, 10, [0, 10, 20, 24]), (1, 10, [0]), (21, 10, [0, 10, 20]), (3, 1, [0, 1, 2])],
)
def test_the_first_and_the_last_step_are_evaluated(steps, interval, expected):
    segments = []
    fit(*gaussians(30), steps=steps, eval_step_interval=interval, report=segments.append, validation=np.arange(6))
    assert [row.step for s in segments for row in s.evaluations] == expected
    assert np.concatenate([s.steps for s in segments]).tolist() == list(range(steps))
    assert not any(math.isnan(row.validation_accuracy) for s in segments for row in s.evaluations)


def test_without_validation_images_there_is_no_validation_accuracy():
    (first, last) = trained(*gaussians(30), steps=5).history
    assert (first.step, last.step) == (0, 4)
    assert all(math.isnan(row.validation_accuracy) and row.validation_count == 0 for row in (first, last))


def test_minus_one_validates_on_every_image_once():
    vectors, labels = gaussians(90)
    held_out = np.arange(60, 90)
    outcome = trained(vectors, labels, steps=20, validation=held_out, validation_batch_size=-1)
    right = (outcome.head.probabilities(vectors[held_out]).argmax(1) == labels[held_out]).mean()
    assert outcome.history[-1].validation_accuracy == pytest.approx(right)
    assert outcome.history[-1].validation_count == 30


def test_the_statistics_of_a_large_set_come_from_a_sample(monkeypatch):
    monkeypatch.setattr(head_training, "STATISTICS_EXAMPLES", 50)
    asked = []
    vectors, labels = gaussians(400)

    def gather(rows):
        asked.append(len(rows))
        return vectors[rows].copy()

    fit(vectors, labels, gather=gather, steps=2, batch_size=4, eval_step_interval=1)
    assert asked[0] == 50
    assert max(asked[1:]) <= 8


def rings(count, seed=0):
    """Two classes that no plane parts: near the origin, and far from it in all directions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    directions = rng.normal(size=(count, 4))
    radius = np.where(labels == 0, 1.0, 3.0)[:, None]
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True) * radius).astype(np.float32), labels


@pytest.mark.parametrize(
    "optimizer", ["sgd", *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS if name != "sgd")]
)
def test_a_hidden_layer_learns_what_a_plane_cannot_part(optimizer):
    vectors, labels = rings(400)
    rate = 0.01 if optimizer in ("rmsprop", "adam") else 0.3 if optimizer == "sgd" else 0.05
    deep = fit(vectors, labels, recipe=HeadRecipe(hidden_units=(32, 16), optimizer=optimizer), learning_rate=rate)
    flat = fit(vectors, labels, recipe=HeadRecipe(optimizer=optimizer, l2=1e-9), learning_rate=rate)
    new, truths = rings(400, seed=1)
    assert (deep.probabilities(new).argmax(1) == truths).mean() > 0.95
    assert (flat.probabilities(new).argmax(1) == truths).mean() < 0.7
    assert [layer.weights.shape for layer in deep.layers] == [(4, 32), (32, 16), (16, 2)]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("l2", [None, 0.2])
def test_the_compiled_loop_trains_and_measures_as_numpy_does(monkeypatch, shared, l2):
    vectors, labels = gaussians(200, spread=4.0)
    if not shared:
        monkeypatch.setattr(chunks, "SHARED_BYTES", 0)
    outcomes, curves = [], []
    for limit in (head_training.NUMPY_WEIGHTS, 0):
        monkeypatch.setattr(head_training, "NUMPY_WEIGHTS", limit)
        results = []
        recipe = HeadRecipe(l2=l2)
        outcomes.append(trained(vectors, labels, recipe=recipe, validation=np.arange(50), report=results.append))
        curves.append([np.concatenate([r.series[name] for r in results]) for name in ("accuracy", "cross_entropy")])
    fast, compiled = outcomes
    assert compiled.head.probabilities(vectors) == pytest.approx(fast.head.probabilities(vectors), abs=1e-4)
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    for one, other in zip(fast.history, compiled.history, strict=True):
        assert list(vars(one).values()) == pytest.approx(list(vars(other).values()), abs=1e-4)


def test_a_large_head_is_trained_by_the_compiled_loop():
    vectors, labels = gaussians(40, dimension=head_training.NUMPY_WEIGHTS // 2)
    assert fit(vectors, labels, steps=2, batch_size=4).probabilities(vectors).shape == (40, 3)


def test_plain_gradient_descent_needs_no_tensorflow(tmp_path):
    code = """
import sys, numpy as np
from retrain.training import head_training, sampling
from retrain.training.recipe import HeadRecipe, TrainingPlan
vectors, labels = np.random.default_rng(0).random((40, 8), np.float32), np.arange(40) % 2
plan = TrainingPlan(20, 10, 10, 5, seed=0)
data = head_training.TrainingData(lambda rows: vectors[rows], labels, np.arange(30), 2)
samples = sampling.sample_training(labels, np.arange(30), np.arange(30, 40), plan)
head_training.train(data, samples, HeadRecipe(), plan)
print(sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    assert command("python", "-c", code, cwd=tmp_path).stdout == "[]\n"


def test_a_training_that_diverges_says_which_flag_to_change():
    vectors, labels = gaussians(60)
    with pytest.raises(TrainingError, match="NaN or infinite. Try a smaller --learning_rate than 1e\\+38"):
        fit(vectors, labels, learning_rate=1e38)


@pytest.mark.parametrize("recipe", [None, pytest.param(HeadRecipe(optimizer="adam"), marks=pytest.mark.slow)])
@pytest.mark.parametrize("validation_batch_size", [20, -1])
@pytest.mark.parametrize("validation", [50, 0])
def test_parts_are_bounded_by_bytes_however_rarely_it_is_evaluated(
    monkeypatch, recipe, validation_batch_size, validation
):
    vectors, labels = gaussians(300)
    options = {"steps": 101, "eval_step_interval": 101, "batch_size": 10}
    options |= {"validation": np.arange(validation), "validation_batch_size": validation_batch_size}
    whole = trained(vectors, labels, recipe=recipe, **options)
    monkeypatch.setattr(chunks, "SHARED_BYTES", 0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * 8 * 45)
    results, read = [], []

    def gather(rows):
        read.append(len(rows))
        return vectors[rows]

    divided = trained(vectors, labels, recipe=recipe, gather=gather, report=results.append, **options)
    assert max(len(result.steps) for result in results) == 4
    assert sorted(read)[-3] <= 45  # but for the statistics of all, and a whole validation split
    assert np.concatenate([result.steps for result in results]).tolist() == list(range(101))
    assert [row.step for row in divided.history] == [0, 100]
    assert divided.head.probabilities(vectors) == pytest.approx(whole.head.probabilities(vectors), abs=1e-4)
    for one, other in zip(divided.history, whole.history, strict=True):
        assert list(vars(one).values()) == pytest.approx(list(vars(other).values()), abs=1e-4, nan_ok=True)


def test_weights_that_are_finite_and_logits_that_are_not_are_a_divergence():
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    with pytest.raises(TrainingError, match="diverged"):
        fit(vectors, np.arange(60) % 3, learning_rate=3e38, steps=1)


@pytest.mark.parametrize("recipe", [HeadRecipe(hidden_units=(8,), dropout=0.3), HeadRecipe(optimizer="adam")])
@pytest.mark.slow
def test_gathering_in_small_parts_changes_nothing_for_any_head(monkeypatch, recipe):
    vectors, labels = gaussians(300)
    whole = fit(vectors, labels, recipe=recipe, steps=60)
    monkeypatch.setattr(chunks, "SHARED_BYTES", 0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * 8 * 100)
    divided = fit(vectors, labels, recipe=recipe, steps=60)
    assert whole.probabilities(vectors) == pytest.approx(divided.probabilities(vectors), abs=1e-4)


def test_regularisation_keeps_weights_small_and_smoothing_keeps_scores_modest():
    vectors, labels = gaussians(200)
    plain = fit(vectors, labels)
    decayed = fit(vectors, labels, recipe=HeadRecipe(l2=1.0))
    smoothed = fit(vectors, labels, recipe=HeadRecipe(l2=0.0, label_smoothing=0.3), steps=2000, learning_rate=0.5)
    assert np.abs(decayed.last.weights).sum() < np.abs(plain.last.weights).sum() / 2
    # Two thirds of 0.3 go to the other two classes: the best score is 0.8.
    assert smoothed.probabilities(vectors).max(1).mean() == pytest.approx(0.8, abs=0.03)


def test_dropout_leaves_out_at_training_and_nothing_else():
    vectors, labels = gaussians(200, spread=5.0)
    segments = []
    recipe = HeadRecipe(hidden_units=(32,), dropout=0.9)
    head = fit(vectors, labels, recipe=recipe, steps=50, report=segments.append)
    same = fit(vectors, labels, recipe=recipe, steps=50)
    assert np.array_equal(head.last.weights, same.last.weights)
    after = segments[-1].evaluations[-1].train_cross_entropy
    assert after < np.mean([s.series["cross_entropy"].mean() for s in segments[-3:]])


def test_the_cosine_ends_in_steps_that_change_nothing():
    vectors, labels = gaussians(200, spread=5.0)
    segments = []
    fit(vectors, labels, recipe=HeadRecipe(schedule="cosine"), learning_rate=0.5, report=segments.append)
    moves = [np.abs(b.head.last.weights - a.head.last.weights).max() for a, b in itertools.pairwise(segments)]
    assert moves[-1] < moves[len(moves) // 2] / 3


def test_early_stopping_keeps_the_best_weights_and_says_which():
    vectors, labels = gaussians(60, spread=8.0)
    noise = np.random.default_rng(3).permutation(labels)  # nothing to learn: validation only gets worse
    held_out = np.arange(40, 60)
    segments = []
    outcome = trained(
        vectors, noise, steps=500, validation=held_out, validation_batch_size=-1, patience=3, learning_rate=1.0,
        report=segments.append,
    )  # fmt: skip
    ranks = [row.rank for row in outcome.history]
    best = ranks.index(max(ranks))
    assert outcome.step == outcome.history[best].step
    assert np.array_equal(outcome.head.last.weights, segments[best].head.last.weights)
    assert len(segments) == len(outcome.history) == best + 1 + 3
    assert outcome.history[-1].step < 499


def test_early_stopping_without_validation_images_is_one_clear_error():
    with pytest.raises(TrainingError, match="needs validation images"):
        trained(*gaussians(30), patience=2)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_whose_time_is_over_ends_at_the_next_evaluation(optimizer):
    vectors, labels = gaussians(60)
    plan = planned()
    data = TrainingData(lambda rows: vectors[rows].copy(), labels, np.arange(60), 3)
    recipe, samples = HeadRecipe(optimizer=optimizer), sampled(labels, plan)
    late = head_training.train(data, samples, recipe, plan, deadline=time.monotonic() - 1)
    assert [row.step for row in late.history] == [0]
    assert late.step == 0
    assert np.abs(late.head.last.weights).max() > 0
    in_time = head_training.train(data, samples, recipe, plan, deadline=time.monotonic() + 3600)
    whole = head_training.train(data, samples, recipe, plan)
    assert in_time.step == whole.step == 199
    assert np.array_equal(in_time.head.last.weights, whole.head.last.weights)


def test_a_rate_that_falls_has_fallen_when_the_time_is_over():
    vectors, labels = gaussians(60)
    plan = planned()
    data = TrainingData(lambda rows: vectors[rows].copy(), labels, np.arange(60), 3)
    recipe = HeadRecipe(optimizer="adam", schedule="cosine")
    late = head_training.train(data, sampled(labels, plan), recipe, plan, deadline=time.monotonic() - 1)
    assert np.abs(late.head.last.weights).max() == 0  # a rate of 0 leaves it where it began


def test_a_training_whose_time_is_over_ends_with_an_evaluation_of_what_it_has(monkeypatch):
    """Not between two evaluations, where a chunk ends because no more bottlenecks fit into the memory."""
    monkeypatch.setattr(chunks, "SHARED_BYTES", 0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)  # a chunk for every step
    vectors, labels = gaussians(60)
    plan = planned(eval_step_interval=50)
    data = TrainingData(lambda rows: vectors[rows].copy(), labels, np.arange(60), 3)
    for seconds in np.linspace(0, 0.05, 20):  # whenever that is, on whatever machine
        deadline = time.monotonic() + float(seconds)
        late = head_training.train(data, sampled(labels, plan), HeadRecipe(), plan, deadline=deadline)
        assert late.step == late.history[-1].step
