"""The codelab's companions on a small graph."""

import pytest
from builders import exported
from conftest import ROOT, command, photo

from retrain.graphs import nodes, reading
from retrain.inference import loading


@pytest.fixture
def graph(mean_colour_backbone, tmp_path):
    return exported(mean_colour_backbone, tmp_path / "g.pb", test_accuracy=1.0)


def script(name, *words, code=0):
    return command(
        "python", "-m", f"scripts.{name}", *words, cwd=ROOT, code=code, env={"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    )


@pytest.mark.slow
def test_count_ops_counts_all_and_by_name_and_by_type(graph):
    counts = nodes.count_operations(reading.read_graph(graph))
    assert int(script("count_ops", graph).stdout) == sum(counts.values())
    assert int(script("count_ops", graph, "final_result").stdout) == 1
    assert int(script("count_ops", graph, "Const").stdout) == counts["Const"] > 1
    assert script("count_ops", "gone.pb", code=1).stderr.startswith("count_ops: cannot read the graph gone.pb")


@pytest.mark.slow
def test_graph_pb2tb_writes_what_tensorboard_reads(graph, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = script("graph_pb2tb", tmp_path / "my logs", graph)
    assert done.stdout == f"See the graph: retrain tensorboard --logdir '{tmp_path}/my logs'\n"
    events = EventAccumulator(str(tmp_path / "my logs"))
    events.Reload()
    assert "final_result" in {node.name for node in events.Graph().node}


@pytest.mark.slow
def test_quantize_graph_writes_a_graph_that_classifies_and_prints_what_it_costs(graph, tmp_path):
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        for number in range(30):
            photo(tmp_path / "photos" / name / f"{number}.png", colour, seed=number)
    done = script("quantize_graph", f"--input={graph}", f"--output={tmp_path}/r.pb", f"--image_dir={tmp_path}/photos")
    before, after, cost = done.stdout.splitlines()
    assert before.startswith(f"{graph}: {graph.stat().st_size:,} bytes, ")
    assert after.startswith(f"{tmp_path}/r.pb: ")
    assert cost.startswith("Test accuracy 100.0% before, 100.0% after: +0.0% lost (N=")
    assert loading.load(tmp_path / "r.pb").metadata.test_accuracy is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--mode=eightbit"], 2, "quantize_graph: --mode eightbit is not offered"),
        (["--bitdepth=0"], 2, "quantize_graph: --bitdepth is 0; it must be 1 to 16"),
        (["--mode=weights", "--bitdepth=4"], 2, "quantize_graph: --bitdepth is 4"),
        (["--output_node_names=final_resul"], 1, "Did you mean final_result"),
        (["--output={tmp}/g.pb"], 2, "--output would replace {tmp}/g.pb, which --input reads"),
        (["--output={tmp}/r.tflite"], 2, "r.tflite, and .tflite files are of another format. Name it r.pb"),
        (
            ["--output=s3://bucket/r.pb"],
            2,
            "--output: a URL; photos and bottlenecks may be at one, and results stay local",
        ),
        (["--output={tmp}/photo.png"], 1, "a file that is no frozen graph is there"),
    ],
)
def test_quantize_graph_answers_what_it_does_not_offer_in_one_line(graph, tmp_path, words, code, said):
    photo(tmp_path / "photo.png", (1, 2, 3))
    words = [word.format(tmp=tmp_path) for word in words]
    done = script("quantize_graph", f"--input={graph}", f"--output={tmp_path}/r.pb", *words, code=code)
    assert said.format(tmp=tmp_path) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "r.pb").exists()


@pytest.mark.slow
def test_flags_of_the_mode_that_is_not_offered_are_named_and_ignored(graph, tmp_path):
    done = script("quantize_graph", f"--input={graph}", f"--output={tmp_path}/r.pb", "--quantized_input")
    assert done.stderr == "quantize_graph: --quantized_input goes with --mode eightbit only; ignored\n"


def test_show_image_prints_the_caption_or_says_why_not(tmp_path):
    (tmp_path / "LICENSE.txt").write_text("tulips/1.png CC-BY by A Name - https://example.org/1\n")
    image = photo(tmp_path / "tulips" / "1.png", (1, 2, 3))
    assert script("show_image", image).stdout == "tulips/1.png CC-BY by A Name\n"
    assert script("show_image", "gone.jpg", code=1).stderr.startswith("show_image: cannot show gone.jpg: ")
