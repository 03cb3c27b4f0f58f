import numpy as np
import openvino as ov
import openvino.opset13 as operations
import pytest

from serve_app.embedding.backends.openvino import quantised_together


@pytest.mark.parametrize(
    ("width", "together"), [(384, 192), (768, 192), (512, 128), (1_024, 128), (320, 64), (50, 128)]
)
def test_activations_are_quantised_in_equal_parts_of_the_width(width: int, together: int) -> None:
    tokens = operations.parameter([-1, 8], np.float32)
    graph = ov.Model([operations.matmul(tokens, np.zeros((8, width), np.float32), False, False)], [tokens])
    assert quantised_together(graph) == together
