"""What all unit tests have in common."""

import urllib.error
import urllib.request

import pytest


@pytest.fixture(autouse=True)
def no_service_of_this_machine(monkeypatch):
    """Keep code under test from asking what happens to run on this machine."""

    def refuse(opener, request, *args, **kwargs):
        raise urllib.error.URLError("connection refused")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
