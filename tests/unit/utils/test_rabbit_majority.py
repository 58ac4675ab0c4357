"""rabbit_majority: more than half of all."""

import pytest

from tests.support import load

rabbit_majority = load("_utils/rabbit_majority.py")


@pytest.mark.parametrize(
    ("some", "members", "reached"),
    [("ab", "abc", True), ("a", "abc", False), ("ab", "abcd", False), ("a", "a", True)],
)
def test_half_is_no_majority(some, members, reached):
    assert rabbit_majority.is_reached(set(some), set(members)) is reached
