"""The one exception the lab raises on purpose."""


class LabError(Exception):
    """Something a person can act on: the message says what, where and what to type next."""

    exit_code = 1


class UsageError(LabError):
    """The command line asks for something that does not exist."""

    exit_code = 2
