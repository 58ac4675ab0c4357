"""
What is kept on this host before something can destroy it: definitions, and a node's data.

Definitions are copied to dated files; the data of a node is moved to a dated folder.

See https://www.rabbitmq.com/docs/definitions.
"""

import contextlib
import datetime
import glob
import json
import os
import re

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

KEPT = 10
_PREFIX = "definitions-"


def write_definitions(reason, at=None):
    """
    Write a node's definitions to a dated file that only root can read.

    The last ten of them are kept; the last one is not written again when it says the
    same for the same reason, so that tries that fail push none out.
    :func:`import_definitions` brings one back.

    reason
        Why, in a few words; becomes a part of the file's name.
    at : the local node
        Erlang node name whose definitions to keep, here.

    Returns the path of the file.

    Raises SaltInvocationError for a reason without letters, CommandExecutionError
    when the definitions cannot be read or written.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_backup.write_definitions 'before the upgrade'
    """
    words = re.sub(r"[^a-z0-9]+", "-", str(reason).lower()).strip("-")
    if not words:
        raise SaltInvocationError(f"reason must have letters or digits, found {reason!r}")
    definitions = __salt__["rabbitmqctl.export_definitions"](at, with_secrets=True)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    path = os.path.join(_folder(), f"{_PREFIX}{now}-{words}.json")
    try:
        for last in _kept()[-1:]:
            if last.endswith(f"Z-{words}.json") and _read(last) == definitions:
                return last
        with salt.utils.files.set_umask(0o077):
            os.makedirs(_folder(), mode=0o700, exist_ok=True)
            # Under a name that is no backup's until it is whole.
            half = os.path.join(_folder(), f".{_PREFIX}new")
            with open(half, "w", encoding="utf-8") as handle:
                json.dump(definitions, handle, indent=1)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(half, path)
        for old in _kept()[:-KEPT]:
            os.remove(old)
    except OSError as err:
        raise CommandExecutionError(
            f"the definitions could not be kept in {_folder()}: {err}"
        ) from err
    return path


def list_definitions():
    """
    List the files that :func:`write_definitions` wrote, the oldest first.

    Returns a list of paths; empty where none was written.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_backup.list_definitions
    """
    __salt__["rabbit_topology.use_current_pillar"]()
    return _kept()


def import_definitions(path):
    """
    Bring back the definitions of a file that :func:`write_definitions` wrote.

    What is missing is there again, and what has changed since is as it was; what has come since
    stays. Queues come back without their messages. (The file is root's, and RabbitMQ's own tool
    reads as RabbitMQ's user.)

    path
        One of those that :func:`list_definitions` lists on this host.

    Raises SaltInvocationError for another one, CommandExecutionError when it is not whole or
    RabbitMQ does not take it.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_backup.import_definitions \
            /var/backups/rabbit_ha/definitions-20260101T120000.000000Z-before-joining.json
    """
    if path not in list_definitions():
        raise SaltInvocationError(f"{path}: rabbit_backup.list_definitions does not list it")
    definitions = _read(path)
    if not isinstance(definitions, dict):
        raise CommandExecutionError(f"{path} holds no definitions, or not all of them")
    for parameter in definitions.get("global_parameters", []):
        parameter["value"] = __utils__["rabbit_definitions.as_written"](parameter["value"])
    __salt__["rabbitmqctl.import_definitions"](definitions)


def set_data_aside(service):
    """
    Keep this node's data under another name, so that its next start is a first one.

    service
        Name of RabbitMQ's service; it is stopped and stays so.

    Returns the folder where the data is now.

    Raises CommandExecutionError when that fails; a service that ran goes on then.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_backup.set_data_aside rabbitmq-server
    """
    source = __salt__["rabbit_topology.node_dir"]()
    aside = _aside(source)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    kept = os.path.join(aside, f"{os.path.basename(source)}-{now}")
    ran = __salt__["rabbit_host.service_has_begun"](service)
    __salt__["rabbit_host.systemctl"]("stop", service)
    try:
        with _opened_folder(aside) as folder:
            os.rename(source, os.path.basename(kept), dst_dir_fd=folder)
            # The feature flags of the cluster it was in lie beside its data.
            for path in glob.glob(f"{glob.escape(source)}-feature_flags"):
                name = f"{os.path.basename(kept)}-feature_flags"
                os.rename(path, name, dst_dir_fd=folder)
    except BaseException as err:
        failed = f"{source} could not be set aside: {err or type(err).__name__}"
        if ran:
            __salt__["rabbit_host.systemctl"]("start", service, f"and {failed}", no_block=True)
        if isinstance(err, OSError):
            raise CommandExecutionError(f"{failed}. Next: see to that, then run again") from err
        raise
    __salt__["rabbitmqctl.forget_cached_reads"]()
    return kept


def _kept():
    """Do what :func:`list_definitions` does, with the pillar this job works with."""
    try:
        names = sorted(name for name in os.listdir(_folder()) if name.startswith(_PREFIX))
    except FileNotFoundError:
        return []
    return [os.path.join(_folder(), name) for name in names]


def _read(path):
    """Read definitions that were kept; None where somebody spoilt the file."""
    with salt.utils.files.fopen(path, encoding="utf-8") as handle:
        try:
            return json.load(handle)
        except ValueError:
            return None


def _folder():
    """Tell where the files are."""
    return __salt__["rabbit_topology.settings"]()["rabbitmq"]["backup_dir"]


@contextlib.contextmanager
def _opened_folder(path):
    """Hold a folder itself: RabbitMQ's account may put a link in its place meanwhile."""
    descriptor = os.open(path, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _aside(source):
    """Make the folder for data that is set aside, on the file system where the data is."""
    beside = os.path.dirname(source)
    try:
        for folder in (f"{beside}.aside", os.path.join(beside, ".aside")):
            with salt.utils.files.set_umask(0o077):
                os.makedirs(folder, exist_ok=True)
            if os.path.islink(folder):
                raise CommandExecutionError(
                    f"{__grains__['id']}: data cannot be set aside: {folder} is a link; expected "
                    f"a folder. Next: ls -l {folder}"
                )
            if os.stat(folder).st_dev == os.stat(source).st_dev:
                return folder
    except OSError as err:
        raise CommandExecutionError(f"no folder for data that is set aside: {err}") from err
    raise CommandExecutionError(
        f"{source} is a file system of its own, so it cannot be set aside. "
        "Next: move what is in it away by hand, then run again"
    )
