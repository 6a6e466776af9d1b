"""Which network settings ask for, and where its weights are."""

from retrain.backbones import catalogue, families, strangers
from retrain.backbones.catalogue import BackboneSpec
from retrain.backbones.sources import BackboneSource, WeightsRequest
from retrain.config import RetrainConfig
from retrain.preprocessing import InputSpec
from retrain.terminal import Terminal


def spec_of(config: RetrainConfig) -> BackboneSpec:
    """Return the backbone's row with the user's own values in it."""
    return catalogue.select(
        config.architecture,
        tfhub_module=config.tfhub_module,
        image_size=config.image_size,
        network_input=InputSpec(
            config.input_layer,
            config.input_height,
            config.input_width,
            config.input_mean,
            config.input_std,
            config.keep_aspect_ratio,
        ),
        target=config.bottleneck_tensor,
    )


def located(spec: BackboneSpec, config: RetrainConfig, terminal: Terminal) -> BackboneSource:
    """Return where a network's weights are, downloaded and trusted."""
    advance = terminal.progress("Downloading the backbone", "B")
    source = families.locate(spec, WeightsRequest(config.model_dir, config.weights, config.random_seed, advance))
    strangers.judge(source)
    return source


def computes_what_its_name_says(config: RetrainConfig, spec: BackboneSpec) -> bool:
    """Return whether a backbone is the one of its name: another size, range, tensor or weights give other features."""
    network, hub = config.architecture, config.tfhub_module
    named = catalogue.select(network, tfhub_module=hub, image_size=None, network_input=InputSpec(), target=None)
    targets = (named.target, named.original_target)
    return spec.input == named.input and spec.target in targets and config.weights in (None, catalogue.OFFICIAL)
