import math

import numpy as np
import pytest

from retrain import sampling, training


def gaussians(count, classes=3, dimension=8, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    means = rng.normal(size=(classes, dimension)) * 6
    return (means[labels] + rng.normal(size=(count, dimension)) * spread).astype(np.float32), labels.astype(np.int64)


def planned(labels, *, steps=200, validation=(), interval=10, batch_size=32, validation_batch_size=20, seed=0):
    return sampling.plan(
        labels,
        np.arange(len(labels)),
        np.array(validation, np.int64),
        steps=steps,
        batch_size=batch_size,
        validation_batch_size=validation_batch_size,
        eval_step_interval=interval,
        seed=seed,
    )


def fit(
    vectors, labels, *, learning_rate=0.05, seed=0, report=lambda segment: None, drawn=None, gather=None, **options
):
    return training.train(
        gather or (lambda rows: vectors[rows].copy()),
        labels,
        np.arange(len(labels)),
        drawn or planned(labels, seed=seed, **options),
        class_count=int(labels.max()) + 1,
        learning_rate=learning_rate,
        seed=seed,
        report=report,
    )


def test_well_separated_classes_are_learnt():
    vectors, labels = gaussians(300)
    # The means lie far beyond six deviations apart: a linear head must be right almost always.
    assert (fit(vectors, labels).probabilities(vectors).argmax(1) == labels).mean() > 0.99


def test_random_labels_are_not_learnt():
    vectors, labels = gaussians(300)
    other = gaussians(300, seed=1)[0]
    shuffled = np.random.default_rng(2).permutation(labels)
    assert (fit(vectors, shuffled).probabilities(other).argmax(1) == shuffled).mean() < 0.6


def test_the_first_loss_is_ln_of_the_class_count():
    segments = []
    fit(*gaussians(60, classes=5), steps=5, report=segments.append)
    assert segments[0].cross_entropy[0] == pytest.approx(math.log(5), abs=1e-6)


def test_the_scale_and_offset_of_the_bottlenecks_do_not_matter():
    vectors, labels = gaussians(200)
    head, moved = fit(vectors, labels), fit(vectors * 50 + 7, labels)
    assert head.probabilities(vectors) == pytest.approx(moved.probabilities(vectors * 50 + 7), abs=1e-3)


def test_a_constant_dimension_does_no_harm():
    vectors, labels = gaussians(100)
    vectors[:, 3] = 5
    assert np.isfinite(fit(vectors, labels).weights).all()


def test_features_that_differ_by_rounding_alone_get_no_giant_weights():
    vectors, labels = gaussians(100)
    noise = np.float32(0.005) * (1 + np.sign(vectors) * np.float32(1e-7))
    head = fit(noise.astype(np.float32), labels)
    # Larger ones would make of rounding errors in the features, 1e-7 of 0.005, differences that count.
    assert np.abs(head.weights).max() < 1e7


def test_a_step_is_plain_gradient_descent_on_the_mean_cross_entropy():
    vectors, labels = gaussians(40)
    drawn = planned(labels, steps=3, batch_size=16, interval=1, seed=5)
    variance = vectors.var(0)
    scaled = (vectors - vectors.mean(0)) / np.sqrt(variance + 1e-3 * variance.mean())
    weights, biases = np.zeros((8, 3)), np.zeros(3)
    for batch in drawn.batches:
        surplus = training.softmax(scaled[batch] @ weights + biases) - np.eye(3)[labels[batch]]
        weights -= 0.1 * scaled[batch].T @ surplus / 16
        biases -= 0.1 * surplus.mean(0)
    head = fit(vectors, labels, drawn=drawn, learning_rate=0.1)
    assert head.probabilities(vectors) == pytest.approx(training.softmax(scaled @ weights + biases), abs=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    vectors, labels = gaussians(100)
    one, two, other = (fit(vectors, labels, seed=seed).weights.tobytes() for seed in (1, 1, 2))
    assert one == two != other


def test_gathering_in_small_parts_changes_nothing(monkeypatch):
    vectors, labels = gaussians(500)
    whole = fit(vectors, labels, validation=np.arange(50))
    monkeypatch.setattr(training, "SHARED_BYTES", 0)
    monkeypatch.setattr(training, "PART_BYTES", 4 * 8 * 100)
    parts = fit(vectors, labels, validation=np.arange(50))
    assert whole.weights == pytest.approx(parts.weights, abs=1e-6)


def test_every_class_is_drawn_equally_often_however_rare():
    labels = np.array([0] * 990 + [1] * 10)
    drawn = planned(labels, steps=100, batch_size=100)
    # Five standard deviations of a fair coin thrown 10,000 times.
    assert labels[drawn.batches].mean() == pytest.approx(0.5, abs=5 * 0.5 / 100)


@pytest.mark.parametrize(
    ("steps", "interval", "expected"),
    [(25, 10, [0, 10, 20, 24]), (1, 10, [0]), (21, 10, [0, 10, 20]), (3, 1, [0, 1, 2])],
)
def test_the_first_and_the_last_step_are_evaluated(steps, interval, expected):
    segments = []
    fit(*gaussians(30), steps=steps, interval=interval, report=segments.append, validation=np.arange(6))
    assert np.concatenate([s.evaluated for s in segments]).tolist() == expected
    assert np.concatenate([s.steps for s in segments]).tolist() == list(range(steps))
    assert not np.isnan(segments[-1].validation_accuracy).any()


def test_without_validation_images_there_is_no_validation_accuracy():
    segments = []
    fit(*gaussians(30), steps=5, report=segments.append)
    assert np.isnan(segments[0].validation_accuracy).all()


def test_minus_one_validates_on_every_image_once():
    vectors, labels = gaussians(90)
    segments = []
    held_out = np.arange(60, 90)
    head = fit(vectors, labels, steps=20, report=segments.append, validation=held_out, validation_batch_size=-1)
    right = (head.probabilities(vectors[held_out]).argmax(1) == labels[held_out]).mean()
    assert segments[-1].validation_accuracy[-1] == pytest.approx(right)


def test_the_statistics_of_a_large_set_come_from_a_sample(monkeypatch):
    monkeypatch.setattr(training, "STATISTICS_EXAMPLES", 50)
    asked = []
    vectors, labels = gaussians(400)

    def gather(rows):
        asked.append(len(rows))
        return vectors[rows].copy()

    fit(vectors, labels, gather=gather, steps=2, batch_size=4, interval=1)
    assert asked[0] == 50
    assert max(asked[1:]) <= 8
