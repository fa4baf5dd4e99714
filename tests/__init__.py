import pytest

# What a helper asserts says what it found, as a test does.
pytest.register_assert_rewrite("tests.support", "tests.integration", "tests.e2e", "tests.contract", "tests.clients")
