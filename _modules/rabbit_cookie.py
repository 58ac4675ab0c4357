"""
The Erlang cookie of a broker: compared, sealed for other minions and written.

No function returns the cookie or takes it as an argument. What travels between
hosts is sealed for the public key of the one minion that may open it: neither
the master nor its job cache or event bus can read it.
"""

import base64
import datetime
import os

import salt.utils.files
from cryptography.exceptions import InvalidKey
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Where rabbitmqctl looks for it.
LENT = "rabbitmqctl.lent_cookie"
# RSA holds less than the 255 characters a cookie may have: it seals a key, and
# that key seals the cookie.
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)


def _settings():
    """Give what pillar says of RabbitMQ."""
    return __salt__["rabbit_topology.settings"]()["rabbitmq"]


def _path():
    return os.path.join(_settings()["data_dir"], ".erlang.cookie")


def _current():
    """Read this broker's cookie; None where there is none yet."""
    try:
        return __utils__["rabbit_service_files.read"](_path())
    except FileNotFoundError:
        return None
    except PermissionError as err:
        raise CommandExecutionError(
            f"{_path()} cannot be read: {err.strerror}. Next: let Salt's minion run as root"
        ) from err
    except OSError as err:
        raise CommandExecutionError(
            f"the Erlang cookie could not be read: {err}; expected a file of its own, as root "
            f"follows no link there. Next: ls -l {_path()}"
        ) from err


def _wanted(sealed):
    """Open what is sealed for this minion, else take the cookie from pillar."""
    if sealed is None:
        cookie = __pillar__.get("rabbit_ha", {}).get("rabbitmq", {}).get("erlang_cookie")
        if not cookie:
            raise SaltInvocationError(
                "no sealed cookie was given and pillar rabbit_ha:rabbitmq:erlang_cookie is empty"
            )
        return cookie.encode()
    key_path = os.path.join(__opts__["pki_dir"], "minion.pem")
    try:
        with salt.utils.files.fopen(key_path, "rb") as handle:
            private = serialization.load_pem_private_key(handle.read(), password=None)
        key, token = (base64.b64decode(part) for part in sealed.split("."))
        return Fernet(private.decrypt(key, _OAEP)).decrypt(token)
    except (ValueError, TypeError, OSError, InvalidKey, InvalidToken) as err:
        raise CommandExecutionError(
            f"the sealed cookie cannot be opened with {key_path}: "
            f"{type(err).__name__}. Next: salt-run state.orchestrate orch.rabbit_ha"
        ) from None


def seal(public_keys):
    """
    Seal this broker's cookie for other minions.

    public_keys
        Mapping from minion id to its public key in PEM form, as the master holds
        it.

    Returns a mapping from minion id to a string that only that minion can open.

    Raises CommandExecutionError when this host has no cookie or a link in its place,
    SaltInvocationError when a key is none.

    CLI Example:

    .. code-block:: bash

        salt rabbitmq-node1 rabbit_cookie.seal '{"rabbitmq-node2": "-----BEGIN PUBLIC KEY…"}'
    """
    __salt__["rabbit_topology.use_current_pillar"]()
    cookie = _current()
    if not cookie:
        raise CommandExecutionError(
            f"{_path()} is not there; RabbitMQ makes it when it first starts. "
            f"Next: systemctl start {_settings()['service']}"
        )
    sealed = {}
    for minion, pem in public_keys.items():
        try:
            public = serialization.load_pem_public_key(pem.encode())
        except ValueError as err:
            raise SaltInvocationError(f"{minion}: not a public key in PEM form: {err}") from err
        key = Fernet.generate_key()
        parts = (public.encrypt(key, _OAEP), Fernet(key).encrypt(cookie))
        sealed[minion] = ".".join(base64.b64encode(part).decode() for part in parts)
    return sealed


def matches(sealed=None):
    """
    Tell whether this broker's cookie is the wanted one, without showing either.

    sealed : None
        What :func:`seal` made for this minion; without it, pillar's cookie.

    Returns a boolean; False also where there is no cookie yet.

    Raises CommandExecutionError when ``sealed`` cannot be opened, the file not read, or a link is
    in the cookie's place, SaltInvocationError when there is nothing to compare with.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_cookie.matches
    """
    current = _current()
    # Erlang takes the first line only; Debian's package ends it, RabbitMQ does not.
    return current is not None and current.strip() == _wanted(sealed).strip()


def lend(sealed=None):
    """
    Let RabbitMQ's tools use the wanted cookie from now on, in place of the one in the file.

    So that a member can be told something by a node that is to have the cookie only afterwards.
    It is in this job's memory alone, and in the tools' environment, which root and RabbitMQ's
    user can read; :func:`take_back` ends it. What the tools read before is forgotten.

    sealed : None
        What :func:`seal` made for this minion; without it, pillar's cookie.

    Raises CommandExecutionError when ``sealed`` cannot be opened, SaltInvocationError when there
    is no cookie.

    See https://www.rabbitmq.com/docs/cli#erlang-cookie.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_cookie.lend
    """
    # As matches() has it: Erlang takes the first line only.
    __context__[LENT] = _wanted(sealed).decode().strip()
    __salt__["rabbitmqctl.forget_cached_reads"]()


def take_back():
    """
    Let RabbitMQ's tools use the cookie in the node's file again; see :func:`lend`.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_cookie.take_back
    """
    __context__.pop(LENT, None)
    __salt__["rabbitmqctl.forget_cached_reads"]()


def has_right_mode():
    """
    Tell whether the cookie file belongs to RabbitMQ's user, with mode 0400.

    Returns a boolean.

    Raises CommandExecutionError where there is no such file.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_cookie.has_right_mode
    """
    user = _user()
    found = __salt__["file.stats"](_path())
    return found["user"] == user and found["mode"] == "0400"


def protect():
    """
    Give the cookie file to RabbitMQ's user, mode 0400; the node may run meanwhile.

    Raises CommandExecutionError when that fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_cookie.protect
    """
    try:
        __utils__["rabbit_service_files.protect"](_path(), 0o400, _user())
    except (OSError, LookupError) as err:
        raise CommandExecutionError(
            f"{_path()} could not be protected: {err}. Next: ls -l {_path()}"
        ) from err


def write(sealed=None):
    """
    Put the wanted cookie in place; the node must not run meanwhile.

    What was there is kept beside it, with the time in its name and mode 0400.

    sealed : None
        What :func:`seal` made for this minion; without it, pillar's cookie.

    Returns the path of the backup, or None where there was nothing to keep.

    Raises CommandExecutionError when ``sealed`` cannot be opened or the file not
    written, SaltInvocationError when there is nothing to write.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_cookie.write
    """
    cookie = _wanted(sealed)
    user = _user()
    try:
        return _replace(_path(), cookie, user)
    except (OSError, LookupError) as err:
        raise CommandExecutionError(f"{_path()} could not be written: {err}") from err


def _user():
    """Tell whose the cookie file is."""
    return _settings()["service_user"]


def _replace(path, content, user):
    """Write a file for its user only and keep what was there; return the backup's path."""
    create = __utils__["rabbit_service_files.create"]
    backup = None
    before = _current()
    if before is not None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        backup = f"{path}.{now}.bak"
        create(backup, before, 0o400)
    # Written beside it and renamed: a run that is killed here, or a power failure, leaves
    # the old cookie or the new one, never half of one.
    fresh = f"{path}.new"
    create(fresh, content, 0o400, user)
    os.replace(fresh, path)
    return backup
