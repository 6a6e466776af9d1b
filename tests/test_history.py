from builders import terminal

from retrain.history import Evaluation


def test_steps_read_as_the_originals():
    shown, out, _ = terminal()
    shown.say_all(Evaluation(490, 0.97, 0.123456789, 0.91, 0.3, 100).lines())
    assert out.getvalue().splitlines() == [
        "Step 490: Train accuracy = 97.0%",
        "Step 490: Cross entropy = 0.123457",
        "Step 490: Validation accuracy = 91.0% (N=100)",
    ]
