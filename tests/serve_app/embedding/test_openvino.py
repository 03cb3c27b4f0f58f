import numpy as np
import openvino as ov
import openvino.opset13 as operations
import pytest

from serve_app.embedding.backends.openvino import quantised_together


@pytest.mark.parametrize(
    ("widths", "together"),
    [((384, 1_536), 192), ((768, 3_072), 192), ((512, 2_048), 128), ((1_024, 768), 128), ((320,), 64), ((50,), 128)],
)
def test_activations_are_quantised_in_equal_parts_of_every_layer(widths: tuple[int, ...], together: int) -> None:
    layer = tokens = operations.parameter([-1, widths[0]], np.float32)
    for width, following in zip(widths, [*widths[1:], 7], strict=True):
        layer = operations.matmul(layer, np.zeros((following, width), np.float32), False, True)
    scores = operations.matmul(layer, layer, False, True)  # of activations, which have no width to share
    assert quantised_together(ov.Model([scores], [tokens])) == together
