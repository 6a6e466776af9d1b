from builders import terminal

from retrain.history import Evaluation, to_keep


def test_steps_read_as_the_originals():
    shown, out, _ = terminal()
    shown.say_all(Evaluation(490, 0.97, 0.123456789, 0.91, 0.3, 100).lines())
    assert out.getvalue().splitlines() == [
        "Step 490: Train accuracy = 97.0%",
        "Step 490: Cross entropy = 0.123457",
        "Step 490: Validation accuracy = 91.0% (N=100)",
    ]


def tuned(*accuracies, count=100):
    return [Evaluation(step, 0.5, 1.0, accuracy, 1.0, count) for step, accuracy in enumerate(accuracies, start=-1)]


def test_of_evaluations_that_differ_by_chance_the_last_is_kept():
    rows = tuned(0.8, 0.7, 0.9, 0.88, 0.86)
    assert to_keep(rows) is rows[3]  # a standard error of 90 % of 100 images is 3 %
    rows = tuned(0.8, 0.7, 0.9, 0.88, 0.86, count=10_000)
    assert to_keep(rows) is rows[2]


def test_nothing_is_kept_that_is_not_better_than_the_start():
    rows = tuned(0.9, 0.88, 0.9, 0.89)
    assert to_keep(rows) is rows[0]
    rows = tuned(0.9, 0.91, 0.89)
    assert to_keep(rows) is rows[1]
