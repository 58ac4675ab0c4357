"""
Steps of the deployment that concern all hosts at once; they run on the master.

Used by ``salt/orch/rabbit_ha.sls``; the work is done by the runner ``rabbit_ha``.
"""


def ready(name, errors=()):
    """
    Require that pillar is complete and that all hosts answer, before anything is touched.

    Except in test mode, no other deployment may be under way, and none can begin
    until this one has ended.

    name
        Says what for; shown in the output only.
    errors
        List of the errors in the pillar that the orchestration was made from. With
        any of them this step fails, whatever pillar says by now.

    Returns a state's return; it has no changes. Raises nothing: what is wrong is in ``comment``.
    """
    if not __opts__["test"]:
        alone = __salt__["saltutil.runner"]("rabbit_ha.keep_others_out")
        if not isinstance(alone, dict) or alone["problems"]:
            return _result(name, alone, "")
    found = __salt__["saltutil.runner"]("rabbit_ha.ready")
    if not isinstance(found, dict):
        return _result(name, found, "")
    if errors and not found["problems"]:
        found = {**found, "problems": [*errors]}
    good = f"{len(found['hosts'])} hosts answer, pillar is complete"
    return _with_warnings(_result(name, found, good), found)


def planned(name):
    """
    Tell what a highstate of all hosts would change; changes nothing.

    With nothing to be done the result is True without changes, and steps with
    ``onchanges`` on this one are skipped. In test mode the result is None, and what the
    cookie's step would do is told too; else it comes next where all brokers are new.

    name
        Says what for; shown in the output only.

    Returns a state's return: ``changes`` maps each host to its states' changes. Raises nothing:
    what is wrong is in ``comment``.
    """
    options = {"are_ready": True, "in_detail": __opts__["test"]}
    found = __salt__["saltutil.runner"]("rabbit_ha.plan", **options)
    if not isinstance(found, dict):
        return _result(name, found, "")
    data = found["data"]
    found = {"problems": data["verdict"]["problems"], "changes": data["changes"]}
    ret = _result(name, found, "already as described", planned="would be changed")
    return _with_warnings(ret, data["verdict"])


def cookie_synced(name):
    """
    Bring the seed's Erlang cookie to the brokers that have another one.

    name
        Says what for; shown in the output only.

    Returns a state's return: ``changes`` maps each broker to its states' changes, which name no
    cookie. Raises nothing: what failed is in ``comment``.
    """
    if __opts__["test"]:
        return {
            "name": name,
            "result": True,
            "changes": {},
            "comment": "Compared, and where needed carried, when the run is a real one",
        }
    found = __salt__["saltutil.runner"]("rabbit_ha.sync_cookie", are_ready=True)
    return _result(name, found, "All brokers have the cluster's Erlang cookie")


def verified(name, messages=1000):
    """
    Require that messages go through the virtual address and that all parts are well.

    name
        Says what for; shown in the output only.
    messages : 1000
        How many messages to send.

    Returns a state's return; it has no changes. Raises nothing: what is wrong is in ``comment``.
    """
    if __opts__["test"]:
        return {
            "name": name,
            "result": True,
            "changes": {},
            "comment": "Verified when the run is a real one",
        }
    found = __salt__["saltutil.runner"]("rabbit_ha.verify", messages=messages)
    if not isinstance(found, dict):
        return _result(name, found, "")
    verdict = found["data"]["verdict"]
    ret = _result(name, {"problems": verdict["problems"]}, verdict["says"])
    return _with_warnings(ret, verdict)


def _with_warnings(ret, verdict):
    """Add a verdict's warnings to a state's return, as Salt shows them."""
    if verdict.get("warnings"):
        ret["warnings"] = verdict["warnings"]
    return ret


def _result(name, found, good, planned=None):
    """Turn what the runner found into a state's return."""
    ret = {"name": name, "result": True, "changes": {}, "comment": good}
    if not isinstance(found, dict):
        # An exception in a runner comes back as its text.
        ret.update(result=False, comment=str(found))
    elif found["problems"]:
        ret.update(result=False, comment="\n".join(found["problems"]))
    elif found.get("changes"):
        ret["changes"] = found["changes"]
        if planned:
            ret.update(result=None if __opts__["test"] else True, comment=planned)
    return ret
