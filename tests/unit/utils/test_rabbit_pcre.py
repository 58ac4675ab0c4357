"""What PCRE says of regular expressions, beside what Erlang 25 and 29 said (re:compile/1)."""

import pytest

from tests.support import load

rabbit_pcre = load("_utils/rabbit_pcre.py")

TAKEN = ["", "^", ".*", r"^a++", r"(?>abc)", r"(?|a|b)", r"\p{Lu}+", r"[[:alpha:]]+", r"a{,3}"]
TAKEN += [r"(?<name>a)\k<name>", r"(a)(?1)", r"\h\R\K", r"[]a]", r"\Qa(b", r"(?#com(ment)a"]
TAKEN += [r"(?<=a|bc)d", r"(*UTF8)é", r"(?x) a # (comment", r"(?s-i:a)", r"\_\-", "a\0b", "é"]
REFUSED = [r"(?<n", r"(?i", r"(?", r"(?z)", r"(?<1a>b)", r"(?9)", r"\p{Foo}", r"(*FOO)a", r"\L"]
REFUSED += [r"[[:foo:]]", r"\1", r"a{99999}", r"(?|a)(", "*", "[z-a]", "\\", "a{3,2}", "(a))"]
REFUSED += [r"a{2}{3}", r"(?&nope)", r"(?<n>a)(?<n>b)"]
FROM_28 = [r"^[\w-.]+$", r"[\d-z]", r"\y", r"[[:alpha:]-z]"]


@pytest.mark.parametrize("expression", TAKEN)
def test_what_erlang_takes_has_no_fault(expression):
    assert rabbit_pcre.fault(expression) is None


@pytest.mark.parametrize("expression", REFUSED)
def test_what_erlang_refuses_has_one(expression):
    found = rabbit_pcre.fault(expression)
    assert found["refused_by"] == "all" and found["why"]


@pytest.mark.parametrize("expression", FROM_28)
def test_what_erlang_refuses_from_28_on_only(expression):
    assert rabbit_pcre.fault(expression)["refused_by"] == "newer"


@pytest.mark.parametrize("expression", [r"\y(", r"\y[a", r"\y*+*"])
def test_what_is_behind_that_is_looked_at(expression):
    assert rabbit_pcre.fault(expression)["refused_by"] == "all"


def test_what_pcre2_took_until_10_42_only_is_refused_by_older_erlang(monkeypatch):
    """A library of another version says something else, so its code stands here."""
    monkeypatch.setattr(rabbit_pcre, "_compiled", lambda text: (125, "not fixed length"))
    found = rabbit_pcre.fault("(?<=ab?)c")
    assert found == {"why": "not fixed length", "refused_by": "older"}


def test_without_the_library_nothing_can_be_asked(monkeypatch):
    assert rabbit_pcre.is_there()
    monkeypatch.setattr(rabbit_pcre, "LIBRARY", "libpcre2-no.so.0")
    assert not rabbit_pcre.is_there()
