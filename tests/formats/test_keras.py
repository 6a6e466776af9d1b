import numpy as np
import pytest
from builders import NAMES, pixels_of

from retrain.formats import table as format_table

pytestmark = pytest.mark.slow  # all need the training that is exported in every format


def test_keras_loads_its_file_in_safe_mode_and_trains_on(graph, pictures):
    import keras

    model = keras.saving.load_model(format_table.path_of(graph, "keras"), safe_mode=True)
    batch = np.stack([pixels_of(path) for path in pictures.values()])
    assert [NAMES[i] for i in model.predict(batch, verbose=0).argmax(1)] == list(pictures)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    labels = np.array([NAMES.index(name) for name in pictures])
    before = model.get_weights()
    model.fit(batch, labels, verbose=0)
    assert any((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))
