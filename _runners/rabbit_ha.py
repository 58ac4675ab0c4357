"""
Rabbit HA as a whole, from the master: validate, plan, status, verify, secrets.

The steps of the deployment that take more than one host at once are here too;
``salt/orch/rabbit_ha.sls`` calls them through the state module ``rabbit_ha``.
"""

import contextlib
import functools
import logging
import os
import queue
import re
import threading
import time
import uuid

import pika
import pika.exceptions
import salt.client
import salt.fileclient
import salt.key
import salt.utils.files
import salt.utils.hashutils
import salt.utils.yaml
import yaml
from salt.exceptions import CommandExecutionError, SaltClientError, SaltException

log = logging.getLogger(__name__)

DEFAULTS = "salt://rabbit_ha/defaults.yaml"
# In which file a secret is, by the part of pillar that it belongs to: one a role.
SECRETS_OF = {"rabbitmq": "broker", "haproxy": "load_balancer", "keepalived": "load_balancer"}
SYNC = ["saltutil.sync_utils", "saltutil.sync_modules", "saltutil.sync_states"]
# This project's own among the module files that a master serves.
OWN = re.compile(
    r"_(modules|states|utils)/"
    r"(rabbit_\w+|rabbitmqctl|haproxy_build|keepalived_build|source_build\w*)\.py"
)
# What the plan calls the step that carries the cookie; the ID of the state that receives it.
COOKIE_STATE = "The Erlang cookie is the cluster's"
# The IDs of the states that change where a broker is new: the second restarts an empty one only.
NEW_STATES = {"RabbitMQ is installed", "RabbitMQ runs with its configuration"}
# The state of a broker whose minion does not answer; others are rabbitmqctl's words.
AWAY = "away"
HANGS = "unreachable"
# Seconds that a minion may take to load modules that were brought there.
LOADED_WITHIN = 30
# Seconds until a host that has not answered is asked whether it is still at the job: one
# that is goes on being waited for, one that lost it, as by a power failure, is not.
ASKED_AFTER = 15
# How many connections verify publishes over, for each broker.
PUBLISHERS = 2
# Seconds that verify waits for the next confirm, as of a queue without a majority.
UNCONFIRMED = 30
# Seconds that it waits for the next message to come back.
LOST_AFTER = 10
# What a policy may set that drops or refuses messages, or deletes the queue.
LIMITING = ("max-length", "max-length-bytes", "message-ttl", "expires", "overflow")


def _told(answer):
    """
    Have a public function tell in a sentence what Salt raises, and salt-run exit with 1 then.

    answer
        Function that makes a list of problems into what the decorated one returns.
    """

    def decorate(function):
        @functools.wraps(function)
        def telling(*args, **kwargs):
            try:
                found = function(*args, **kwargs)
            except SaltException as err:
                found = answer([str(err)])
            # Elsewhere this is in the data that goes to the outputter.
            return {**found, "retcode": 1} if found.get("problems") else found

        return telling

    return decorate


# What pillar says


def _file_client():
    """Open the master's own file server, without a network round."""
    return salt.fileclient.get_file_client({**__opts__, "file_client": "local"})


def _pillar(minion):
    """Compile a minion's pillar, once in a run."""
    compiled = __context__.setdefault("rabbit_ha.pillar", {})
    if minion not in compiled:
        compiled[minion] = __salt__["pillar.show_pillar"](minion)
    return compiled[minion]


def _settings(host=None):
    """
    Merge the pillar of a host over the defaults.

    host : the master itself
        Minion id; the topology is in everyone's pillar, secrets only in that of
        the hosts that need them.
    """
    with _file_client() as client:
        path = client.cache_file(DEFAULTS)
    if not path:
        why = __utils__["rabbit_settings.not_served"](DEFAULTS)
        raise CommandExecutionError(f"{why} (see docs/production.md)")
    with salt.utils.files.fopen(path) as handle:
        defaults = salt.utils.yaml.safe_load(handle)
    pillar = _pillar(host or __opts__["id"])
    if pillar.get("_errors"):
        raise CommandExecutionError("; ".join(_errors_of(host or __opts__["id"])))
    return __utils__["rabbit_settings.merged"](defaults, pillar.get("rabbit_ha"))


def _call(hosts, function, arguments=(), timeout=ASKED_AFTER, **kwargs):
    """
    Run an execution function on hosts at the same time.

    Returns a mapping from host to a mapping with ``ok`` (boolean), ``return``;
    a host that did not answer is there with ``ok`` False and ``return`` None.
    """
    if not hosts:
        return {}
    try:
        with salt.client.get_local_client(mopts=__opts__) as client:
            answers = client.cmd(
                hosts,
                function,
                arg=arguments,
                tgt_type="list",
                timeout=timeout,
                full_return=True,
                **kwargs,
            )
    except SaltClientError as err:
        raise CommandExecutionError(
            f"{', '.join(hosts)}: the master took no job for them ({err}). Next, on the master: "
            "systemctl status salt-master"
        ) from err
    found = {}
    for host in hosts:
        answer = answers.get(host)
        if not isinstance(answer, dict) or answer.get("out") == "no_return":
            found[host] = {"ok": False, "return": None}
        else:
            code = answer.get("retcode", 0)
            # Several functions in one call have a code each.
            failed = any(code.values()) if isinstance(code, dict) else code
            found[host] = {"ok": not failed, "return": answer.get("ret")}
    return found


@_told(lambda problems: _answer(problems, ""))
def validate():
    """
    Check pillar for everything that a deployment needs, without touching a host.

    Returns a mapping with ``data`` (a mapping ``verdict`` with ``result``,
    boolean, ``says``, ``problems`` and ``warnings``, lists of sentences) and the
    outputter. On errors salt-run exits with 1; warnings are shown.

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.validate
    """
    errors, warnings = _pillar_findings()
    return _answer(errors, "pillar is complete", warnings)


def _pillars():
    """Compile the pillar of the master and of each host; returns them by minion id."""
    own = __opts__["id"]
    described = _pillar(own).get("rabbit_ha")
    hosts = described.get("hosts") if isinstance(described, dict) else None
    names = [str(host) for host in hosts] if isinstance(hosts, dict) else []
    return {host: _pillar(host) for host in [own, *names]}


def _pillar_findings():
    """
    Collect what the check found wrong with the master's pillar and with each host's.

    Returns two lists of sentences, each once: errors and warnings.
    """
    errors, warnings, failures = set(), set(), {}
    for host, pillar in _pillars().items():
        for failure in pillar.get("_errors", []):
            failures.setdefault(failure, host)
        errors.update(_errors_in(host, pillar))
        warnings.update(pillar.get("rabbit_ha_findings", {}).get("warnings", []))
    errors.update(f"pillar of {host}: {_located(said)}" for said, host in failures.items())
    return sorted(errors), sorted(warnings)


def _errors_in(host, pillar):
    """List what is wrong in a host's pillar as far as it compiled, each a sentence."""
    if "rabbit_ha" in pillar or "_errors" in pillar:
        return __utils__["rabbit_settings.pillar_errors"](pillar)
    key, whom = (
        ("rabbit_ha:hosts", "the master too") if host == __opts__["id"] else ("rabbit_ha", "it")
    )
    return [
        f"{key}: found nothing in the pillar of {host}; expected the topology, which pillar's "
        f"top.sls has to give to {whom}"
    ]


def _errors_of(host):
    """List all that is wrong in the pillar of the master or of a host, each a sentence."""
    pillar = _pillar(host)
    failures = [f"pillar of {host}: {_located(said)}" for said in pillar.get("_errors", [])]
    return failures + _errors_in(host, pillar)


def _located(failure):
    """Add the line that is no YAML to Salt's words on a file of pillar, where that can be told."""
    named = re.search("SLS '([^']+)' failed", failure)
    relative = named and named.group(1).replace(".", "/")
    roots = [root for folders in __opts__["pillar_roots"].values() for root in folders]
    for root in roots if relative else []:
        for path in (f"{root}/{relative}.sls", f"{root}/{relative}/init.sls"):
            try:
                with salt.utils.files.fopen(path, encoding="utf-8") as handle:
                    salt.utils.yaml.safe_load(handle)
            except yaml.MarkedYAMLError as err:
                # Not what is on it, which may be a secret. Jinja is not looked into.
                line = (err.problem_mark or err.context_mark).line + 1
                return f"{path}, line {line}, is no YAML"
            except (OSError, ValueError, yaml.YAMLError):
                continue
    return failure


def _counted(number, noun):
    """Put a number before a noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _answer(problems, good, warnings=(), **tables):
    """Build what the functions for people return; on problems salt-run exits with 1."""
    data = {
        "verdict": {
            "result": not problems,
            "says": good if not problems else _counted(len(problems), "problem"),
            "problems": problems,
            "warnings": list(warnings),
        },
        **tables,
    }
    if problems:
        data["retcode"] = 1
    return {"data": data, "outputter": "rabbit_ha"}


# Secrets


@_told(lambda problems: _answer(problems, ""))
def secrets():
    """
    Create random secrets for what pillar lacks, where only the master's user can read them.

    They go to pillar files below the folder that the master's setting
    ``rabbit_ha.secrets_dir`` names, which must be in ``pillar_roots``. A secret that
    is there is never changed; a file that this function has not made is left alone.

    Returns a mapping with ``data`` (``verdict``, and ``files``: a mapping from
    path to what was done) and the outputter; no secret is in it. Where pillar still
    lacks a secret then, salt-run exits with 1.

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.secrets
    """
    unfit = _unfit_for_secrets(__opts__.get("rabbit_ha.secrets_dir"))
    if unfit:
        return _answer([unfit], "")
    missing = _missing_secrets()
    if missing is None:
        return _answer(_pillar_findings()[0], "")
    files, problems = {}, []
    for role in ("broker", "load_balancer"):
        path = os.path.join(
            __opts__["rabbit_ha.secrets_dir"], "rabbit_ha", "secrets", f"{role}.sls"
        )
        places = [list(place) for place in missing if SECRETS_OF[place[0]] == role]
        if not places and not os.path.exists(path):
            continue
        try:
            files[path] = {"done": __utils__["rabbit_secret_files.complete"](path, places)}
        except CommandExecutionError as err:
            problems.append(str(err))
    if missing and not problems:
        __context__.pop("rabbit_ha.pillar")
        problems = [
            f"the pillar of {host} still lacks rabbit_ha:{':'.join(place)}. Does pillar's top.sls "
            f"give rabbit_ha.secrets.{SECRETS_OF[place[0]]} to it?"
            for place, host in (_missing_secrets() or {}).items()
        ]
    return _answer(problems, "the secrets are there", files=files)


def _unfit_for_secrets(folder):
    """Tell in a sentence why secrets must not go to a folder; None where they may."""
    if not folder:
        return "rabbit_ha.secrets_dir is not set in the master's configuration"

    def listed(*settings):
        """Gather the folders that settings of the master name."""
        for setting in settings:
            value = __opts__.get(setting) or []
            for folders in value.values() if isinstance(value, dict) else [value]:
                yield from (os.path.realpath(path) for path in folders)

    where = os.path.realpath(folder)
    for path in listed("file_roots", "module_dirs"):
        if os.path.commonpath([path, where]) == path:
            return (
                f"rabbit_ha.secrets_dir is {folder}, within {path}: minions could read it, or it "
                "would get into the checkout. Set it to a folder of its own"
            )
    if where not in listed("pillar_roots"):
        return f"rabbit_ha.secrets_dir is {folder}, which is not one of pillar_roots"
    return None


def _missing_secrets():
    """
    Collect the secrets that pillar lacks.

    Returns a mapping from a tuple of keys, where the secret belongs below
    ``rabbit_ha``, to a host that lacks it; None where pillar cannot tell.
    """
    pillars = _pillars()
    findings = {host: pillar.get("rabbit_ha_findings", {}) for host, pillar in pillars.items()}
    broken = any(pillar.get("_errors") for pillar in pillars.values())
    unchecked = any("missing_secrets" not in found for found in findings.values())
    if broken or unchecked or len(pillars) == 1:
        return None
    return {
        tuple(place): host for host, found in findings.items() for place in found["missing_secrets"]
    }


# Steps of the deployment


@_told(lambda problems: {"problems": problems})
def keep_others_out():
    """
    Require that no other deployment is under way on this master, and let none begin.

    It lasts until the process that called this ends, as an orchestration does with
    its last step, or when it is killed.

    Returns a mapping with ``problems`` (a list of sentences).

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.keep_others_out
    """
    try:
        __utils__["rabbit_run_lock.acquire"](os.path.join(__opts__["cachedir"], "rabbit_ha.lock"))
    except CommandExecutionError as err:
        return {"problems": [str(err)]}
    return {"problems": []}


@_told(lambda problems: {"problems": problems, "warnings": [], "hosts": []})
def ready(patience=300, interval=2):
    """
    Tell whether a deployment can begin: pillar is complete, all hosts answer and are free.

    Brings the project's modules to the hosts that do not have them yet. A run that was
    killed leaves its jobs behind, and Salt applies states once at a time on a host: such
    jobs are waited for, and told on the terminal.

    patience : 300
        Seconds to wait for hosts that still apply states.
    interval : 2
        Seconds between two looks at them.

    Returns a mapping with ``problems`` and ``warnings`` (lists of sentences) and
    ``hosts``.

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.ready
    """
    problems, warnings = _pillar_findings()
    if problems:
        return {"problems": problems, "warnings": warnings, "hosts": []}
    hosts = list(_settings()["hosts"])
    served = _served_modules()
    answers = _call(hosts, "rabbit_host.readiness", [list(served)], timeout=10)
    problems = _silent(answers)
    if not problems:
        jobs = _jobs_where_current(answers, served)
        lacking = [host for host in hosts if host not in jobs]
        problems = _bring_modules(lacking, served, jobs, min(patience, LOADED_WITHIN), interval)
    if not problems:
        problems, waited = _await_free(hosts, jobs, patience, interval)
        warnings = [*warnings, *waited]
    return {"problems": problems, "warnings": warnings, "hosts": hosts}


def _words(host, said):
    """Give what a host said without its name, with which the sentence around it begins."""
    return re.sub(rf"^(ERROR[^:]*: )?{re.escape(host)}: ", "", str(said))


def _silent(answers):
    """List the hosts that did not answer, each a problem with its way out."""
    silent = [host for host, answer in answers.items() if answer["return"] is None]
    if not silent:
        return []
    with salt.key.get_key(__opts__) as keys:
        listed = keys.list_keys()
    return [f"{host}: {_why_silent(host, listed)}" for host in silent]


def _why_silent(host, keys):
    """
    Tell why a minion may not answer, and what to do.

    keys
        Mapping from what the master holds of keys to lists of minion ids.
    """
    if host in keys["minions_denied"]:
        return (
            "the minion shows another key than the one that was accepted, as after the host was "
            f"installed anew; no host was touched. Next: salt-key -d {host}, then, when the minion "
            f"has come back, salt-key -a {host}"
        )
    if host in keys["minions_pre"]:
        return (
            "the minion's key is not accepted yet; no host was touched. Next: compare "
            f"salt-key -f {host} with salt-call --local key.finger there, then salt-key -a {host}"
        )
    return (
        "the minion does not answer; no host was touched. Next: salt-key -L, then on "
        f"{host}: systemctl status salt-minion"
    )


def _jobs_where_current(answers, served):
    """Map the hosts that said that they have the modules that are served to their jobs."""
    # A minion without any answers too: that there is no such function.
    return {
        host: answer["return"]["jobs"]
        for host, answer in answers.items()
        if answer["ok"] and answer["return"]["modules"] == served
    }


def _bring_modules(hosts, served, jobs, patience, interval):
    """
    Bring the project's modules to hosts, and see that they are there; returns the problems.

    jobs
        Mapping from host to its running jobs, which those of these hosts are added to.
    """
    # Less than sync_all, which asks the master for twenty kinds of modules.
    synced = _call(hosts, SYNC, [[] for _ in SYNC])
    problems = [
        f"{host}: the modules could not be brought there: {_words(host, answer['return'])}"
        for host, answer in synced.items()
        if not answer["ok"]
    ]
    started, lacking = time.monotonic(), hosts
    while lacking and not problems:
        answers = _call(lacking, "rabbit_host.readiness", [list(served)], timeout=10)
        jobs |= _jobs_where_current(answers, served)
        lacking = [host for host in lacking if host not in jobs]
        if time.monotonic() - started >= patience:
            problems = [
                f"{host}: the modules were brought there, yet they are not what the master serves: "
                f"{_differing(host, answers[host], served)}. Next, on {host}: df /var/cache/salt; "
                "salt-call state.show_top, which has to name base (see docs/production.md); "
                "salt-call config.get extmod_whitelist, and extmod_blacklist; then "
                f"salt {host} saltutil.clear_cache, and run again"
                for host in lacking
            ]
        elif lacking:
            time.sleep(interval)
    return problems


def _await_free(hosts, jobs, patience, interval):
    """
    Wait until no host applies states any more.

    jobs
        Mapping from host to its running jobs, where they are known already.

    Returns two lists of sentences: problems, and what was waited for.
    """
    started, told = time.monotonic(), {}
    while True:
        answers = _call(
            [host for host in hosts if host not in jobs], "saltutil.running", timeout=10
        )
        problems = _silent(answers)
        jobs |= {host: answer["return"] if answer["ok"] else [] for host, answer in answers.items()}
        busy = {host: said for host in hosts if (said := _in_the_way(jobs[host]))}
        if problems or not busy or time.monotonic() - started >= patience:
            break
        for host in busy.keys() - told.keys():
            log.warning("%s is still at %s; waiting up to %d s", host, busy[host], patience)
        told |= busy
        time.sleep(interval)
        jobs = {host: running for host, running in jobs.items() if host not in busy}
    problems += [
        f"{host}: still at {said} after {patience} s, perhaps of a run that was killed; no host "
        f"was touched. Next: run again later, or end it: salt {host} saltutil.kill_job JID"
        for host, said in busy.items()
    ]
    return problems, [f"{host}: waited for {said}" for host, said in told.items()]


def _in_the_way(jobs):
    """Name those of a minion's jobs that Salt applies no states beside, in one string."""
    found = []
    for job in jobs:
        # A job of several functions has a list, at which Salt's own check breaks.
        functions = job["fun"] if isinstance(job["fun"], list) else [job["fun"]]
        if len(functions) > 1 or functions[0].startswith("state."):
            found.append(f"{', '.join(functions)} (jid {job['jid']}, PID {job['pid']})")
    return "; ".join(found)


def _served_modules():
    """Map this project's module files to the SHA-256 digests of what the file server has."""
    with _file_client() as client:
        # Not the file server's own digests, which are of the master's hash_type.
        return {
            path.removeprefix("_"): salt.utils.hashutils.get_hash(
                client.cache_file(f"salt://{path}"), "sha256"
            )
            for folder in ("_modules", "_states", "_utils")
            for path in client.file_list(prefix=folder)
            if OWN.fullmatch(path)
        }


def _differing(host, answer, served):
    """Tell how the module files that a host has differ from those that are served."""
    if not answer["ok"]:
        return _words(host, answer["return"] or "the minion did not answer")
    there = answer["return"]["modules"]
    lacking = [name for name in served if there.get(name) is None]
    other = [name for name in served if name not in lacking and there[name] != served[name]]
    found = {"not there": lacking, "with other content": other}
    return "; ".join(f"{', '.join(names)} {how}" for how, names in found.items() if names)


@_told(lambda problems: _answer(problems, "", changes={}))
def plan(are_ready=False, in_detail=True):
    """
    Tell host by host what a deployment would change; changes nothing.

    Every host applies its states in test mode, at the same time; so does the step
    that carries the Erlang cookie, where a broker would change. What a deployment
    leaves to a person, as restarting a broker that serves, is told as a warning. Before,
    hosts that lack the project's modules get them, see :func:`ready`.

    are_ready : False
        Whether :func:`ready` has just found pillar and the hosts to be.
    in_detail : True
        Whether the step that carries the cookie is asked also where all brokers but the
        seed are new: without RabbitMQ, or alone and empty. They get it anyway.

    Returns a mapping with ``data`` (``verdict``, and ``changes``: a mapping from
    host to a mapping from each state that would change something to what it would
    change) and the outputter. Where a prediction fails, salt-run exits with 1.

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.plan
    """
    problems, warnings, changes = [], [], {}
    if not are_ready:
        found = ready()
        problems, warnings = found["problems"], found["warnings"]
    if not problems:
        settings = _settings()
        hosts = list(settings["hosts"])
        answers = _call(hosts, "state.apply", ["rabbit_ha"], kwarg={"test": True})
        problems, changes, told = _state_results(answers, "in test mode")
        warnings = [*warnings, *told]
        brokers = __utils__["rabbit_settings.hosts_with_role"](settings, "broker")
        seed = __utils__["rabbit_settings.seed_host"](settings)
        new = {host for host in brokers if not NEW_STATES.isdisjoint(changes.get(host, {}))}
        asked = in_detail or not {*brokers} - {seed} <= new
        if asked and not problems and not changes.keys().isdisjoint(brokers):
            carried = _carried_cookie("rabbit_ha.rabbitmq.cookie", test=True)
            problems = carried["problems"]
            for host, states in carried["changes"].items():
                changes[host] = {**states, **changes.get(host, {})}
    count = sum(len(states) for states in changes.values())
    says = f"{_counted(count, 'state')} on {_counted(len(changes), 'host')} would change"
    return _answer(problems, says if changes else "nothing to do", warnings, changes=changes)


def _state_results(answers, step):
    """
    Sum up the state runs of hosts.

    Returns a list of problems, each a sentence; a mapping from host to a mapping from
    each state that changed, or would change, something to its changes; and a list of
    the states' warnings, each a sentence.
    """
    problems, changes, warnings = [], {}, []
    for host, answer in answers.items():
        if not isinstance(answer["return"], dict):
            said = _words(host, answer["return"] or "the minion did not answer")
            problems.append(f"{host}: {step}: {said}")
            continue
        for state in answer["return"].values():
            if state["result"] is False:
                problems.append(f"{host}: {state['__id__']}: {_words(host, state['comment'])}")
            elif state["result"] is None or state["changes"]:
                changes.setdefault(host, {})[state["__id__"]] = state["changes"]
            warnings += [f"{host}: {_words(host, said)}" for said in state.get("warnings", [])]
    return problems, changes, warnings


@_told(lambda problems: {"problems": problems, "changes": {}})
def sync_cookie(patience=90, interval=3, are_ready=False):
    """
    Bring the cluster's Erlang cookie to the other brokers, sealed for each.

    The seed has it; where that is new, or was installed anew, the others have. That broker
    seals it for each minion's public key, which the master holds; on the way nobody
    can read it. A broker that has it already goes on running, unless it stands alone,
    holds nothing and has not read its configuration: nodes that start again, that one
    too, do it at the same time. Before, no other deployment may be under way, and pillar and
    the hosts are found to be ready, see :func:`keep_others_out` and :func:`ready`.

    patience : 90
        Seconds to wait for brokers that run and do not answer, as for a minute after
        another one lost its power: they may know that the seed was installed anew.
    interval : 3
        Seconds between two looks at them.
    are_ready : False
        Whether both have just been seen to.

    Returns a mapping with ``problems`` (a list of sentences) and ``changes``
    (mapping from host to a mapping from state to its changes).

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.sync_cookie
    """
    if not are_ready:
        problems = keep_others_out()["problems"] or ready()["problems"]
        if problems:
            return {"problems": problems, "changes": {}}
    return _carried_cookie("rabbit_ha.rabbitmq.configuration_loaded", patience, interval)


def _carried_cookie(sls, patience=0, interval=0, test=False):
    """
    Have all brokers apply an SLS with the cluster's Erlang cookie, sealed for each other one.

    In test mode it may not be known yet whose it is, and there may be none: RabbitMQ makes
    one when it first starts, and then the others get it.

    Returns what :func:`sync_cookie` does.
    """
    settings = _settings()
    seed = __utils__["rabbit_settings.seed_host"](settings)
    brokers = __utils__["rabbit_settings.hosts_with_role"](settings, "broker")
    if len(brokers) < 2 or _settings(seed)["rabbitmq"]["erlang_cookie"]:
        return {"problems": [], "changes": {}}
    giver, failed, hang = _cookie_giver(brokers, seed, patience, interval)
    if failed or hang:
        return {"problems": failed + ([] if test else hang), "changes": {}}
    joining = [host for host in brokers if host != giver]
    with salt.key.get_key(__opts__) as keys:
        public = {host: keys.key_str(host).get("minions", {}).get(host) for host in joining}
    unknown = [f"{host}: the master has no accepted key" for host, key in public.items() if not key]
    if unknown:
        return {"problems": unknown, "changes": {}}
    sealed = _call([giver], "rabbit_cookie.seal", [public])[giver]
    if not sealed["ok"] and test:
        carried = {COOKIE_STATE: {"erlang_cookie": "replaced by the cluster's"}}
        return {"problems": [], "changes": dict.fromkeys(joining, carried)}
    if not sealed["ok"]:
        said = _words(giver, sealed["return"])
        return {"problems": [f"{giver}: sealing the cookie: {said}"], "changes": {}}
    answers = _call(
        brokers,
        "state.apply",
        [sls],
        kwarg={"test": test, "pillar": {"rabbit_ha_sealed_cookies": sealed["return"]}},
    )
    problems, changes, _ = _state_results(answers, "cookie sync")
    return {"problems": problems, "changes": changes}


def _cookie_giver(brokers, seed, patience, interval):
    """
    Name the broker whose Erlang cookie is the cluster's.

    It is the seed, unless that stands alone and others form a cluster: one that was
    installed anew, which they count as one of them, or is new joins theirs.

    Returns its name, and two lists of problems: brokers that answered with an error, and
    those that run and do not answer.
    """
    node = __utils__["rabbit_settings.node_name"](seed)
    started = time.monotonic()
    while True:
        answers = _call(brokers, "rabbit_report.broker")
        seen = {host: answer["return"] for host, answer in answers.items() if answer["ok"]}
        hang = [host for host, report in seen.items() if report.get("state") == HANGS]
        if not hang or time.monotonic() - started >= patience:
            break
        time.sleep(interval)
    members = {host: report["members"] for host, report in seen.items() if "members" in report}
    others = [host for host in members if host != seed and len(members[host]) > 1]
    # Of two clusters the one that it was in.
    others.sort(key=lambda host: node not in members[host])
    failed = [
        f"{host}: looking for the broker that has the cluster's Erlang cookie: "
        f"{_words(host, answer['return'])}"
        for host, answer in answers.items()
        if not answer["ok"] and answer["return"] is not None
    ]
    hanging = [
        f"{host}: the broker runs and does not answer, so it is not known whose Erlang cookie is "
        f"the cluster's. Next, on {host}: rabbitmq-diagnostics ping"
        for host in hang
    ]
    giver = others[0] if others and members.get(seed) == [node] else seed
    return giver, failed, hanging


# What is there now


@_told(lambda problems: _answer(problems, "", brokers={}, load_balancers={}))
def status(patience=0):
    """
    Show all brokers and load balancers, and who holds the address.

    patience : 0
        Seconds to wait for all of it to become well.

    Returns a mapping with ``data`` (``verdict``; ``brokers`` and
    ``load_balancers``, mappings from host to what ``rabbit_report.broker`` and
    ``rabbit_report.load_balancer`` return) and the outputter. On problems salt-run
    exits with 1. ``--out=json`` prints ``data`` for scripts. While pillar has errors no
    host can be asked, and the verdict alone is there.

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.status
    """
    errors = _errors_of(__opts__["id"])
    if errors:
        return _answer(errors, "", brokers={}, load_balancers={})
    problems, tables = _looked(_settings(), patience)
    return _answer(problems, "all is well", _waiting(tables), **tables)


def _looked(settings, patience):
    """
    Look at all hosts until nothing is wrong, at most for so many seconds.

    Returns the list of problems, and the tables of :func:`_reports`.
    """
    deadline = time.monotonic() + patience
    while True:
        tables = _reports(settings)
        problems = _problems(settings, tables)
        if not problems or time.monotonic() >= deadline:
            return problems, tables
        time.sleep(1)


def _reports(settings):
    """Ask all hosts at the same time what they see; one table a role."""
    answers = _call(list(settings["hosts"]), "rabbit_report.host")
    answered = [host for host, answer in answers.items() if answer["return"] is not None]
    if len(answered) < len(answers):
        # What these saw is as old as the wait for the others, and an address has moved since.
        answers |= _call(answered, "rabbit_report.host")
    tables = {"brokers": {}, "load_balancers": {}}
    for table, role in (("brokers", "broker"), ("load_balancers", "load_balancer")):
        for host in __utils__["rabbit_settings.hosts_with_role"](settings, role):
            answer = answers[host]
            if answer["ok"] and role in answer["return"]:
                seen = answer["return"][role]
            elif answer["return"] is None:
                why = f"the minion does not answer. Next: on {host}, systemctl status salt-minion"
                seen = {"error": why, "state": AWAY}
            elif answer["ok"]:
                why = "its own pillar does not say so. Next: salt-run rabbit_ha.validate"
                seen = {"error": why, "state": None}
            else:
                seen = {"error": _words(host, answer["return"]), "state": None}
            tables[table][host] = seen
    return tables


def _problems(settings, tables):
    """List what is wrong in the reports of all hosts, each a sentence; causes come first."""
    problems = []
    rabbit = __utils__["rabbit_settings.node_name"]
    wanted = {rabbit(host) for host in tables["brokers"]}
    away = [host for host, seen in tables["brokers"].items() if seen.get("state") == AWAY]
    for host in sorted(tables["brokers"], key=lambda host: host not in away):
        problems += _broker_problems(host, tables["brokers"][host], wanted, away)
    for host, seen in tables["load_balancers"].items():
        problems += _load_balancer_problems(host, seen, tables["brokers"])
    for address in __utils__["rabbit_settings.virtual_addresses"](settings):
        held = {host: seen.get("holds") for host, seen in tables["load_balancers"].items()}
        holders = [host for host, addresses in held.items() if address in (addresses or [])]
        silent = [host for host, addresses in held.items() if addresses is None]
        if held and len(holders) != 1:
            unknown = f" ({', '.join(silent)} could not be asked)" if silent else ""
            problems.append(
                f"{address} is held by {', '.join(holders) or 'no host'}{unknown}; expected "
                "exactly one load balancer"
            )
    return problems


def _waiting(tables):
    """List what is well and yet waits for a person, each a sentence."""
    return [
        f"{host}: broker: its configuration was written since it started, and is in effect from "
        "its next restart on. Next, one broker at a time: docs/runbook.md, A changed rabbitmq.conf"
        for host, seen in tables["brokers"].items()
        if seen.get("waits_for_restart")
    ]


def _broker_problems(host, seen, wanted, away):
    """
    List what is wrong in a broker's report.

    wanted
        Set of the Erlang node names of all brokers.
    away
        List of the brokers whose minion does not answer.
    """
    if seen.get("state") == HANGS and away:
        return [
            f"{host}: broker: does not answer yet, which is usual for a minute after another one "
            f"is gone ({', '.join(away)})"
        ]
    if seen.get("error"):
        return [f"{host}: broker: {_words(host, seen['error'])}"]
    problems = []
    unknown = sorted(set(seen["members"]) - wanted)
    if set(seen["members"]) != wanted:
        names = ", ".join(node.partition("@")[2] for node in unknown)
        way_out = (
            f"give {names} the role broker below rabbit_ha:hosts, or to have it forgotten name it "
            "in rabbit_ha:rabbitmq:absent_members (docs/runbook.md, Take a broker out), then "
        )
        problems.append(
            f"{host}: sees the members {', '.join(seen['members'])}; expected "
            f"{', '.join(sorted(wanted))}. Next: {way_out if unknown else ''}"
            "salt-run state.orchestrate orch.rabbit_ha"
        )
    missing = sorted(wanted - set(seen["running"]))
    if missing and set(seen["members"]) == wanted:
        problems.append(f"{host}: sees {', '.join(missing)} not running")
    if seen["alarms"]:
        problems.append(f"{host}: alarms: {', '.join(seen['alarms'])}")
    if seen["partitions"]:
        problems.append(f"{host}: partitioned from {', '.join(seen['partitions'])}")
    if seen.get("under_maintenance"):
        problems.append(
            f"{host}: is under maintenance: it lets no client in, and its replicas rest. Next, "
            "once that is done, on this host: rabbitmq-upgrade revive"
        )
    return problems


def _load_balancer_problems(host, seen, brokers):
    """List what is wrong in a load balancer's report; ``brokers`` are those HAProxy should see."""
    if seen.get("error"):
        return [f"{host}: load balancer: {_words(host, seen['error'])}"]
    if seen["haproxy"] == "running":
        views = {broker: seen["servers"].get(broker, "not configured") for broker in brokers}
        problems = [
            f"{host}: HAProxy sees {broker} {view}; expected UP"
            for broker, view in views.items()
            if not view.startswith("UP")
        ]
    else:
        problems = [f"{host}: HAProxy is down ({seen['haproxy']}). Next: systemctl status haproxy"]
    # "unknown" is no fault: keepalived tells its next state.
    return problems + [
        f"{host}: VRRP instance {name}: {state}; expected MASTER or BACKUP"
        for name, state in seen["vrrp"].items()
        if state not in ("MASTER", "BACKUP", "unknown")
    ]


@_told(lambda problems: _answer(problems, "", messages=[], brokers={}, load_balancers={}))
def verify(messages=1000, patience=30):
    """
    Send messages through each virtual address and look at every part.

    Publishes persistent messages with publisher confirms through each virtual
    address that HAProxy serves and consumes them all meanwhile, as an administrator, in the
    first vhost of pillar where one may, and over no more connections than pillar's limits
    leave; checks that each broker sees
    all members, that each HAProxy sees all brokers up, that exactly one host holds
    each address and that keepalived is well.

    messages : 1000
        How many messages to send through each address.
    patience : 30
        Seconds to wait for the cluster to become well, as after a deployment.

    Returns a mapping with ``data`` (as :func:`status`, and ``messages``, a list with a
    mapping for each address: ``address``, ``confirmed``, ``consumed``, ``seconds``; none,
    and a warning, where pillar has only the hashes of the administrators' passwords, or where
    their permissions or limits leave no way) and the outputter.
    On problems salt-run exits with 1.

    CLI Example:

    .. code-block:: bash

        salt-run rabbit_ha.verify
    """
    errors = _errors_of(__opts__["id"])
    if errors:
        return _answer(errors, "", messages=[], brokers={}, load_balancers={})
    settings = _settings()
    problems, tables = _looked(settings, patience)
    counted, warnings = [], _waiting(tables)
    try:
        of_broker = _settings(__utils__["rabbit_settings.seed_host"](settings))
        account, obstacle = _account(of_broker, _queue_name())
    except CommandExecutionError as err:
        return _answer([*problems, str(err)], "", warnings, messages=[], **tables)
    if obstacle:
        warnings.append(f"no messages were sent: {obstacle}")
        return _answer(problems, "all is well", warnings, messages=[], **tables)
    for address in _addresses_for_clients(settings):
        counts, failure = _round_trip(of_broker, address, messages, account)
        counted.append(counts)
        if failure:
            problems.append(failure)
    through = " and ".join(counts["address"] for counts in counted)
    consumed = " and ".join(str(counts["consumed"]) for counts in counted)
    says = f"{consumed} messages went through {through} and came back"
    return _answer(problems, says, warnings, messages=counted, **tables)


def _addresses_for_clients(settings):
    """List the addresses by which clients reach the brokers."""
    seed = __utils__["rabbit_settings.seed_host"](settings)
    if __utils__["rabbit_settings.hosts_with_role"](settings, "load_balancer"):
        served = __utils__["rabbit_settings.client_addresses"](settings)
        return served or [settings["virtual_address"]]
    return [settings["hosts"][seed]["address"]]


def _queue_name():
    """Name a queue for messages of this run alone."""
    return f"rabbit_ha.verify.{uuid.uuid4()}"


def _round_trip(settings, address, messages, account):
    """
    Publish through an address and consume it all.

    settings
        The settings of a broker.
    account
        What :func:`_account` returned.

    Returns a mapping of counts and a sentence on what failed, or None.
    """
    bind = settings["haproxy"]["rabbitmq_cluster"]["bind"]
    _, port = __utils__["rabbit_settings.address_and_port"](bind)
    if not __utils__["rabbit_settings.hosts_with_role"](settings, "load_balancer"):
        port = settings["rabbitmq"]["amqp_port"]
    vhost = account["vhost"]
    counts = {
        "address": f"{address}:{port}",
        "confirmed": 0,
        "consumed": 0,
        "seconds": 0.0,
    }
    started = time.monotonic()
    parameters = pika.ConnectionParameters(
        host=address,
        port=port,
        virtual_host=vhost,
        credentials=pika.PlainCredentials(account["user"], account["password"]),
        socket_timeout=5,
        blocked_connection_timeout=30,
        connection_attempts=3,
        retry_delay=1,
    )
    name = _queue_name()
    # Gone by itself should this be killed before it deletes the queue.
    arguments = {"x-expires": 600_000}
    if settings["rabbitmq"]["vhosts"][vhost].get("default_queue_type") == "stream":
        # A stream neither expires nor forgets what was consumed.
        arguments["x-queue-type"] = "quorum"
    brokers = len(__utils__["rabbit_settings.hosts_with_role"](settings, "broker"))
    # One more consumes.
    publishers = min(PUBLISHERS * brokers, account["connections"] - 1)
    try:
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            channel.queue_declare(name, durable=True, arguments=arguments)
            try:
                _send_and_consume(channel, parameters, name, publishers, messages, counts)
            finally:
                # Where RabbitMQ has closed the channel it told why already.
                with contextlib.suppress(pika.exceptions.ChannelWrongStateError):
                    channel.queue_delete(name)
    except (pika.exceptions.AMQPError, OSError) as err:
        return counts, (
            f"messages through {counts['address']}: {type(err).__name__} {err}; "
            f"{counts['confirmed']} of {messages} confirmed, {counts['consumed']} consumed. "
            f"{_in_the_way_of_messages(settings, vhost, name, err)}Next: salt-run rabbit_ha.status"
        )
    counts["seconds"] = round(time.monotonic() - started, 2)
    if counts["consumed"] != messages:
        return counts, (
            f"messages through {counts['address']}: {counts['confirmed']} confirmed, but "
            f"{counts['consumed']} consumed; expected {messages}. "
            f"{_in_the_way_of_messages(settings, vhost, name)}"
        ).rstrip()
    return counts, None


def _in_the_way_of_messages(settings, vhost, name, error=None):
    """
    Tell in a sentence what limit explains that messages do not go through a queue.

    Returns that with a space behind it; empty where there is none.
    """
    if "limit" in str(error):
        return "A limit of connections, channels or queues is in the way, nothing is lost. "
    if error is not None and not isinstance(error, pika.exceptions.NackError):
        return ""
    matching = [
        policy
        for policy in __utils__["rabbit_settings.policies"](settings).values()
        if not policy.get("absent")
        and policy["vhost"] == vhost
        and policy["apply-to"] not in ("exchanges", "streams")
        and (policy["pattern"] == "" or _matches(policy["pattern"], name))
    ]
    # RabbitMQ applies one alone.
    for policy in sorted(matching, key=lambda policy: -policy["priority"])[:1]:
        sets = [key for key in LIMITING if key in policy["definition"]]
        if sets:
            return (
                f"The policy {policy['name']} of {vhost} ({', '.join(sets)}) is for this queue "
                "too and may have dropped or refused some of them. "
            )
    return ""


def _send_and_consume(channel, parameters, name, publishers, messages, counts):
    """
    Publish messages to a queue and consume them meanwhile.

    There are never more of them under way than publishers, so that a policy which limits how
    many a queue holds, or for how long, has no reason to drop or refuse one.

    Returns once all have come back, or none comes any more.
    """
    came_back, room, over = set(), threading.Semaphore(publishers), threading.Event()

    def take(channel, method, properties, body):
        channel.basic_ack(method.delivery_tag)
        came_back.add(int(body))
        counts["consumed"] = len(came_back)
        room.release()

    channel.basic_qos(prefetch_count=100)
    channel.basic_consume(name, take)
    outcomes = _publish(parameters, name, publishers, messages, (room, over), counts)
    try:
        _wait(channel.connection, outcomes, publishers, messages, counts)
    finally:
        over.set()
        room.release(publishers)


def _wait(connection, outcomes, publishers, messages, counts):
    """Let messages come in until all have, or none comes any more."""
    at_work, seen, since = publishers, None, time.monotonic()
    while at_work or counts["consumed"] < messages:
        connection.process_data_events(time_limit=0.1)
        while not outcomes.empty():
            at_work, error = at_work - 1, outcomes.get()
            if error:
                raise error
        now = counts["confirmed"], counts["consumed"]
        # Others wait for a confirm, or for those that were confirmed to come back.
        unconfirmed = at_work and now[0] - now[1] < publishers
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since >= (UNCONFIRMED if unconfirmed else LOST_AFTER):
            if unconfirmed:
                raise TimeoutError(f"no confirm came for {UNCONFIRMED} s")
            return


def _publish(parameters, name, publishers, messages, gate, counts):
    """
    Publish numbered persistent messages to a queue, each confirmed, over several connections.

    Waiting for confirms is what takes the time; connections wait side by side, and
    the load balancer spreads them over the brokers.

    gate
        Semaphore that is acquired for each message, and released for each that came back; and an
        event that ends who waits for that.

    Returns a queue that gets the outcome of each publisher: its error, or None.
    """
    persistent = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    lock, outcomes = threading.Lock(), queue.SimpleQueue()
    room, over = gate

    def publish(numbers):
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for number in numbers:
                room.acquire()
                if over.is_set():
                    return
                # Raises when the broker does not confirm or cannot route it.
                channel.basic_publish("", name, str(number).encode(), persistent, mandatory=True)
                with lock:
                    counts["confirmed"] += 1

    def tell(numbers):
        try:
            outcomes.put(publish(numbers))
        except Exception as err:  # Raised again where the outcome is waited for.
            outcomes.put(err)

    for start in range(publishers):
        # pika waits for a confirm without limit; nobody waits for such a thread at the end.
        share = range(start, messages, publishers)
        threading.Thread(target=tell, args=(share,), daemon=True).start()
    return outcomes


def _account(settings, name):
    """
    Find an administrator who can send messages through a queue of a name, and consume them.

    Returns a mapping with ``user``, ``password``, ``vhost`` and ``connections``, how many at
    most: the first one in pillar, and there the first vhost that the user may do so in; and
    None. Where none may, None and a sentence.
    """
    administrators = {
        user: described
        for user, described in settings["rabbitmq"]["users"].items()
        if "administrator" in described.get("tags", []) and not described.get("absent")
    }
    if administrators and all(one.get("password_hash") for one in administrators.values()):
        return None, "of the administrators pillar has hashes only, and no password"
    known = {user: one for user, one in administrators.items() if one.get("password")}
    obstacles = []
    for user, described in known.items():
        for vhost, place in settings["rabbitmq"]["vhosts"].items():
            rights = described.get("permissions", {}).get(vhost, {"absent": True})
            if place.get("absent") or rights.get("absent"):
                continue
            connections = _connections_left(described, place)
            obstacle = _obstacle(rights, place, connections, name)
            if obstacle is None:
                account = {"user": user, "password": described["password"], "vhost": vhost}
                return {**account, "connections": connections}, None
            obstacles.append(f"{user} in {vhost}: {obstacle}")
    if obstacles:
        return None, f"no administrator of pillar may ({'; '.join(obstacles)})"
    lacks = (
        "has no user with the tag administrator and a password. Next: salt-run rabbit_ha.secrets"
    )
    if known:
        lacks = "gives no administrator permissions in a vhost of rabbit_ha:rabbitmq:vhosts"
    raise CommandExecutionError(f"pillar rabbit_ha:rabbitmq:users {lacks}")


def _connections_left(user, vhost):
    """Tell how many connections, each with a channel, the limits in pillar leave to a user."""
    found = [_limit(user, "max-connections"), _limit(user, "max-channels")]
    return min([*found, _limit(vhost, "max-connections")])


def _limit(described, key):
    """Tell a limit of a user or a vhost; without end where there is none."""
    limits = described.get("limits", {})
    limit = limits.get(key, -1)
    return float("inf") if limits.get("absent") or limit < 0 else limit


def _obstacle(rights, vhost, connections, name):
    """Tell what keeps a user from sending messages through a queue of a name; None: nothing."""
    # The default exchange has that name where permissions are concerned.
    needed = {"configure": name, "write": "amq.default", "read": name}
    refused = [key for key, text in needed.items() if not _matches(rights[key], text)]
    if refused:
        return f"{' and '.join(refused)} {'do' if len(refused) > 1 else 'does'} not allow it"
    if connections < 2:
        return f"a limit of {connections} connections or channels"
    if _limit(vhost, "max-queues") < 1:
        return "a limit of 0 queues"
    return None


def _matches(expression, text):
    """
    Tell whether RabbitMQ finds a regular expression of permissions in a text.

    The few that are Erlang's alone are taken to match: RabbitMQ itself tells otherwise.
    """
    try:
        return re.search(expression or "^$", text) is not None
    except re.error:
        return True
