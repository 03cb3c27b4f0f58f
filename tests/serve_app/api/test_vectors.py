from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from serve_app.api.vectors import quantize, to_base64, truncate
from serve_app.types import Vector

components = st.floats(-1, 1, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
matrices = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=components, fill=st.just(0))


@given(matrices, st.integers(1, 20))
def test_truncated_vectors_have_unit_length_or_are_zero(vectors: Vector, dimensions: int) -> None:
    cut = truncate(vectors, dimensions)
    assert cut.shape == (len(vectors), min(dimensions, vectors.shape[1]))
    assert cut.dtype == np.float32
    lengths = np.linalg.norm(cut, axis=1)
    zero = ~vectors[:, :dimensions].any(axis=1)
    np.testing.assert_allclose(lengths[~zero], 1, rtol=1e-5)
    assert not lengths[zero].any()


@given(matrices)
def test_int8_comes_back_within_half_a_step(vectors: Vector) -> None:
    quantized = quantize(vectors, "int8")
    assert quantized.dtype == np.int8
    np.testing.assert_allclose(quantized / 127, vectors, atol=0.5 / 127 + 1e-6)


@given(matrices)
def test_binary_is_a_bit_for_each_sign(vectors: Vector) -> None:
    packed = quantize(vectors, "binary")
    assert packed.dtype == np.uint8
    assert packed.shape == (len(vectors), -(-vectors.shape[1] // 8))
    bits = np.unpackbits(packed, axis=1)
    np.testing.assert_array_equal(bits[:, : vectors.shape[1]], vectors > 0)
    assert not bits[:, vectors.shape[1] :].any()


@pytest.mark.parametrize(("dtype", "wire"), [("float32", "<f4"), ("int8", "i1"), ("binary", "u1")])
def test_base64_is_the_bytes(dtype: str, wire: str) -> None:
    row = quantize(np.linspace(-1, 1, 24, dtype=np.float32)[None], dtype)[0]  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(to_base64(row)), wire), row)
