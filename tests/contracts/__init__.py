import pytest

pytest.register_assert_rewrite("tests.contracts.vector_queries", "tests.contracts.vector_store")
