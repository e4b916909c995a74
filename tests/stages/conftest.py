import pytest
from tiny import quick_compiles

compile_quickly = pytest.fixture(scope="package", autouse=True)(quick_compiles)
