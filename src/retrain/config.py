"""`RetrainConfig`: every setting of a run with its default, written once."""

from dataclasses import dataclass
from pathlib import Path

from retrain import architectures


@dataclass(frozen=True)
class RetrainConfig:
    """Every setting of a run with its default; `retrain --help` says what each one means."""

    image_dir: Path
    output_graph: Path = Path("tf_files/retrained_graph.pb")
    output_labels: Path = Path("tf_files/retrained_labels.txt")
    summaries_dir: Path = Path("tf_files/training_summaries")
    bottleneck_dir: Path = Path("tf_files/bottlenecks")
    model_dir: Path = Path("tf_files/models")
    architecture: str = architectures.DEFAULT
    tfhub_module: str | None = None
    weights: str | None = None
    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    testing_percentage: float = 10
    validation_percentage: float = 10
    eval_step_interval: int = 10
    train_batch_size: int = 100
    validation_batch_size: int = 100
    print_misclassified_test_images: bool = False
    final_tensor_name: str = "final_result"
    bottleneck_tensor: str | None = None
    input_layer: str | None = None
    input_height: int | None = None
    input_width: int | None = None
    input_mean: float | None = None
    input_std: float | None = None
    random_seed: int = 0
