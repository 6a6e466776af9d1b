"""A run that is asked to end, by Ctrl-C, by SIGTERM or by its time limit, in processes of its own."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import colour_folder, command

pytestmark = pytest.mark.slow

STEPS = 20_000  # of fine-tuning: more than are taken before a signal arrives
BEGUN = "Fine-tuning: step "
STOPPING = "Ctrl-C: fine-tuning ends here"
GRAPH = Path("tf_files", "retrained_graph.pb")
CHECKPOINT = Path("tf_files", "checkpoints", "head.fine_tuning.npz")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of two layers, to be tuned in no time."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1, name="scale")(image)
    x = keras.layers.Conv2D(4, 3, 4, activation="relu", name="block1")(x)
    path = tmp_path_factory.mktemp("network") / "network.keras"
    keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x)).save(path)
    return path


def words(network, folder, *more):
    if not (folder / "photos").exists():
        colour_folder(folder / "photos")
    return [
        "retrain", "--image_dir=photos", f"--architecture={network}", "--how_many_training_steps=30",
        "--fine_tune_from=block1", "--fine_tune_batch_size=4", f"--fine_tune_steps={STEPS}", *more,
    ]  # fmt: skip


def signalled(arguments, folder, *signals):
    """Run a command, and send it each signal (None for none) at the next line that starts with the text beside it.

    Returns:
        Its exit code, standard output and standard error.
    """
    script, pending = Path(sys.executable).with_name("retrain"), list(signals)
    with subprocess.Popen(
        [script, *arguments[1:]], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # What is started in the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as started:  # fmt: skip
        said = []
        for line in started.stderr:
            said.append(line)
            if pending and line.startswith(pending[0][0]):
                number = pending.pop(0)[1]
                if number is not None:
                    started.send_signal(number)
        out = started.stdout.read()
    return started.returncode, out, "".join(said)


def step_of(pattern, text):
    return int(re.search(pattern, text)[1])


def test_a_first_ctrl_c_exports_the_best_so_far_and_a_second_ends_at_once(network, tmp_path):
    arguments = words(network, tmp_path)
    code, out, err = signalled(arguments, tmp_path, (BEGUN, signal.SIGINT))
    assert (code, err.count(STOPPING)) == (0, 1), out + err
    done = step_of(r"Ctrl-C ended the fine-tuning after (\d+) steps?: the same command goes on from there\.", out)
    assert done < STEPS
    assert "Final test accuracy" in out
    shown = command("label_image", f"--graph={GRAPH}", "photos/cyan/0.png", cwd=tmp_path).stdout
    assert "cyan" in shown
    before = (tmp_path / GRAPH).read_bytes()

    code, out, err = signalled(arguments, tmp_path, (BEGUN, signal.SIGINT), (STOPPING, signal.SIGINT))
    assert code == 130, out + err
    assert "retrain: interrupted. Finished work is kept; run the same command again to resume." in err
    if done:
        assert step_of(r"Fine-tuning goes on after step (\d+)", err) == done - 1
    assert (tmp_path / GRAPH).read_bytes() == before


def test_sigterm_keeps_the_checkpoint(network, tmp_path):
    arguments = words(network, tmp_path, "--fine_tune_steps=2000")
    # The first line is that of the evaluation before any step, of which there is nothing to keep.
    code, out, err = signalled(arguments, tmp_path, (BEGUN, None), (BEGUN, signal.SIGTERM))
    assert code == 143, out + err
    assert "retrain: terminated." in err
    assert not (tmp_path / GRAPH).exists()
    assert (tmp_path / CHECKPOINT).exists()


def test_ctrl_c_before_the_fine_tuning_interrupts_as_ever(network, tmp_path):
    code, out, err = signalled(words(network, tmp_path), tmp_path, ("Bottlenecks", signal.SIGINT))
    assert code == 130, out + err
    assert STOPPING not in err


def test_ctrl_c_in_a_sweep_ranks_what_is_trained_and_starts_nothing_more(network, tmp_path):
    arguments = words(network, tmp_path, "--random_seed=0,1,2")
    code, out, err = signalled(arguments, tmp_path, (BEGUN, signal.SIGINT))
    assert (code, err.count(STOPPING)) == (0, 1), out + err
    assert "Ctrl-C ended the comparison after 1 of 3 combinations." in out
    assert "Training SEED_1" not in out
    assert (tmp_path / GRAPH).exists()


def test_a_limit_that_is_too_short_leaves_a_graph_all_the_same(network, tmp_path):
    done = command(*words(network, tmp_path, "--time_limit=1s"), cwd=tmp_path)
    assert "--time_limit is used up before the training, and what was computed is kept" in done.stderr
    assert "--time_limit leaves no time for fine-tuning: the network is exported without it." in done.stdout
    assert "more than --time_limit." in done.stderr
    assert BEGUN not in done.stderr
    assert (tmp_path / GRAPH).exists()


def test_an_interrupted_fine_tuning_outlives_a_run_that_has_no_time_for_it(network, tmp_path):
    arguments = words(network, tmp_path, "--fine_tune_steps=2000")
    assert signalled(arguments, tmp_path, (BEGUN, None), (BEGUN, signal.SIGINT))[0] == 0
    kept = (tmp_path / CHECKPOINT).read_bytes()
    command(*arguments, "--time_limit=1s", cwd=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


@pytest.fixture
def colours(tmp_path, mean_colour_backbone):
    colour_folder(tmp_path / "photos", per_class=4)
    return [
        "retrain", "--image_dir=photos", f"--architecture={mean_colour_backbone}", "--bottleneck_tensor=mean_colour",
        "--time_limit=1s", "--validation_batch_size=1", "--train_batch_size=1", "--eval_step_interval=1000",
    ]  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--folds=2"]])
def test_the_head_s_training_ends_with_its_time_and_those_of_folds_with_it(colours, tmp_path, more):
    done = command(*colours, "--how_many_training_steps=3000000", *more, cwd=tmp_path)
    assert ("2-fold cross-validation" in done.stdout) == bool(more)
    assert re.search(r"--time_limit ended the training of the last layer after step \d+ of 3000000\.", done.stdout)
    assert (tmp_path / GRAPH).exists()


def test_a_sweep_without_time_ends_after_one(colours, tmp_path):
    done = command(*colours, "--how_many_training_steps=100", "--learning_rate=0.01,0.02,0.03", cwd=tmp_path)
    assert "--time_limit ended the comparison after 1 of 3 combinations." in done.stdout
    assert (tmp_path / GRAPH).exists()


@pytest.mark.parametrize("value", ["10 minutes", "", "1h30", "m", "-5", "soon", "1d"])
def test_what_is_no_time_is_answered_with_what_is(colours, tmp_path, value):
    done = command(*colours[:2], f"--time_limit={value}", cwd=tmp_path, code=2)
    assert f"--time_limit: {value!r} is no time; give 10m, 90s, 1h30m or a number of seconds." in done.stderr


def test_no_time_at_all_is_bad_usage(colours, tmp_path):
    done = command(*colours[:2], "--time_limit=0", cwd=tmp_path, code=2)
    assert "--time_limit is 0; it must be 1s to 10000h." in done.stderr


def test_several_workers_have_no_common_clock(network, tmp_path):
    arguments = words(network, tmp_path, "--time_limit=10m", "--distribution=multi_worker")
    done = command(*arguments, cwd=tmp_path, code=2)
    assert done.stderr.strip().endswith(
        "--time_limit cannot end several workers at the same step. Give --fine_tune_steps instead."
    )
