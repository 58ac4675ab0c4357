"""Tests on labs of their own; they run beside those in integration/."""

import pathlib

import pytest

from tests.another_lab import NAME, labs, skip_without_root


def pytest_collection_modifyitems(items):
    """Skip what needs real hosts where there cannot be any."""
    skip_without_root(items, pathlib.Path(__file__).parent)


@pytest.fixture
def another_lab(tmp_path):
    """Return a function that boots a lab; see ``labs``."""
    yield from labs(tmp_path, f"{NAME}-second")


@pytest.fixture(scope="module")
def another_lab_for_a_module(tmp_path_factory):
    """As ``another_lab``; the lab stays until the module's last test."""
    yield from labs(tmp_path_factory.mktemp("another"), f"{NAME}-second")
