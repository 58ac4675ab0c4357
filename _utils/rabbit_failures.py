"""
How a state says what failed: the host and the step once each, whoever found it.
"""


def failed(ret, host, step, failure, changes=()):
    """
    Fill a state's return after a failure.

    ret
        The return, which is changed.
    host
        Minion id of the host that it happened on.
    step
        What the state was about to do, or the thing it is about, in a few words.
    failure
        The exception, or its message. That names no host, as Salt does where a module is called
        by hand; where it begins with the step already, that is not said twice.
    changes : none
        Mapping of what was done all the same, or has to be found.
    """
    said = str(failure)
    # As a failed tool is told: "enabling plugins failed: …".
    named, has_failed, _ = said.partition(" failed")
    if not has_failed or ":" in named or step not in named:
        said = f"{step}: {said}"
    ret.update(result=False, changes=dict(changes), comment=f"{host}: {said}")
