"""
A program's configuration: one main file and a folder of snippets, judged together.

What is wanted is put together in a folder that only root can enter; the program
judges it there, and only then does it take the place of what the program runs with.
"""

import glob
import os
import pathlib
import re
import shutil
import tempfile

from salt.exceptions import CommandExecutionError, SaltInvocationError

# What a snippet's file ends in; a file without it is somebody else's and left alone.
MARK = b"# Written by Salt: a snippet of pillar.\n"
# Any of them may hold a secret.
MODE = 0o600
# What each file that Salt writes says of itself.
WRITTEN = b"Written by Salt"
# Of the folder that they are put together in; the id of the process follows.
_PREFIX = "rabbit_ha."
# Where packages of RabbitMQ have it among its plugins, and where it looks for those of others.
_RABBITMQ_PLUGINS = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins"
_MORE_PLUGINS = "/usr/lib/rabbitmq/plugins"
# What RabbitMQ does with its file before it boots; where that is not possible, it is content.
_CUTTLEFISH = """
logger:set_primary_config(level, none),
[File | Folders] = init:get_plain_arguments(),
Refused = fun(Errors) ->
    [io:format("~ts~n", [cuttlefish_error:xlate(Error)]) || {error, Error} <- Errors],
    halt(1)
end,
try
    Below = "*/priv/schema/*.schema",
    Schemas = [filelib:wildcard(filename:join(Folder, Below)) || Folder <- Folders],
    Schema = {_, [_ | _], _} = cuttlefish_schema:files(lists:append(Schemas)),
    case cuttlefish_conf:files([File]) of
        {errorlist, Unread} -> Refused(Unread);
        Conf ->
            case cuttlefish_generator:map(Schema, Conf) of
                {error, _, {errorlist, Wrong}} -> Refused(Wrong);
                _ -> halt(0)
            end
    end
catch
    _:_ -> halt(0)
end.
"""


def stage(name, source, folder=None, suffix="", snippets=None):
    """
    Put together what a program's configuration is to be, for the program to judge.

    name
        Path of the main file.
    source
        ``salt://…``, the main file's Jinja template; ``snippets`` in it tells whether
        there is anything in the folder.
    folder : None
        Path of the folder of snippets.
    suffix : ""
        What the names of files in that folder end in, such as ``.cfg``.
    snippets : None
        Where pillar has snippets, such as ``rabbit_ha:haproxy:snippets``: a mapping with
        ``text``, a mapping from the name of a file, without the suffix, to what is in it,
        and ``source``, ``salt://…``, a folder whose files with the suffix are snippets too.

    Returns a mapping: ``root`` is the folder below which everything lies under the
    path that it will have, ``files`` lists the files that are Salt's own, ``stale``
    those that are there and no longer wanted.

    Raises SaltInvocationError where a snippet is given twice or its folder has none,
    and CommandExecutionError when the template does not render.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.stage /etc/haproxy/haproxy.cfg \
            salt://rabbit_ha/haproxy/files/haproxy.cfg.j2
    """
    # As the files of a folder are listed: a path spelt otherwise would count as another one.
    name, folder = os.path.normpath(name), folder and os.path.normpath(folder)
    root = None
    try:
        files, others, stale = _wanted_files(name, source, folder, suffix, snippets)
        _discard_what_killed_runs_left()
        root = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}.")
        if folder:
            os.makedirs(_staged(root, folder))
        for path in others:
            shutil.copy(path, _staged(root, path))
        for path, content in files.items():
            os.makedirs(os.path.dirname(_staged(root, path)), exist_ok=True)
            _write(_staged(root, path), content)
    except OSError as err:
        if root:
            discard({"root": root})
        raise CommandExecutionError(f"{name} could not be put together: {err}") from err
    return {"root": root, "files": sorted(files), "stale": stale}


def _wanted_files(name, source, folder, suffix, snippets):
    """
    Tell which files there are to be.

    Returns a mapping from path to content of Salt's own files, a list of the paths of other
    people's snippets, and a list of those of Salt's that are no longer wanted.
    """
    files = {f"{folder}/{file}": content for file, content in _snippets(snippets, suffix).items()}
    present = [path for path in _present(folder, suffix) if str(path) not in files]
    others = [path for path in present if not path.read_bytes().endswith(MARK)]
    files[name] = _rendered(name, source, {"snippets": bool(files or others)})
    return files, others, [str(path) for path in present if path not in others]


def _discard_what_killed_runs_left():
    """Remove what processes have put together that were killed before they removed it."""
    for path in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*.*"):
        process = path.name.removeprefix(_PREFIX).split(".")[0]
        # Anyone may make a folder of such a name.
        mine = path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink()
        if mine and process.isdigit() and not os.path.exists(f"/proc/{process}"):
            shutil.rmtree(path)


def _staged(root, path):
    """Tell where a file lies while it is judged."""
    return f"{root}{path}"


def _present(folder, suffix):
    """List the files of the folder that the program reads, in its order."""
    if not folder or not os.path.isdir(folder):
        return []
    return sorted(
        path
        for path in pathlib.Path(folder).iterdir()
        if path.name.endswith(suffix) and not path.name.startswith(".") and path.is_file()
    )


def _snippets(pillar, suffix):
    """Collect the snippets of pillar and of the file server: a mapping from file to content."""
    described = __salt__["pillar.get"](pillar, {}, unmask=True) if pillar else {}
    texts = described.get("text", {})
    ours = {f"{name}{suffix}": text.encode() for name, text in texts.items()}
    found = dict(ours)
    source = described.get("source")
    for path in _served(source, suffix) if source else []:
        if path.name in found:
            both = f"at {pillar}:text and at" if path.name in ours else "in two folders below"
            raise SaltInvocationError(f"{path.name} is {both} {source}")
        found[path.name] = path.read_bytes()
    return {file: content.rstrip(b"\n") + b"\n" + MARK for file, content in found.items()}


def _served(source, suffix):
    """Fetch the files of a folder of the file server that have the suffix; lists their paths."""
    cached = map(pathlib.Path, __salt__["cp.cache_dir"](source))
    found = [path for path in cached if path.name.endswith(suffix)]
    if not found:
        raise SaltInvocationError(f"{source}: the master's file server has no *{suffix} there")
    return found


def _rendered(name, source, context):
    """Render the main file's template; returns what it makes."""
    path, _, failure = __salt__["file.get_managed"](
        name=name,
        template="jinja",
        source=source,
        source_hash=None,
        source_hash_name=None,
        user=None,
        group=None,
        mode=None,
        attrs=None,
        saltenv=__opts__["saltenv"] or "base",
        context=context,
        defaults=None,
    )
    if failure or not path:
        raise CommandExecutionError(f"{source}: {failure or 'found nothing there'}")
    rendered = pathlib.Path(path)
    try:
        return rendered.read_bytes()
    finally:
        rendered.unlink()


def differences(staged):
    """
    Compare what was put together with what is there.

    staged
        What :func:`stage` returned.

    Returns a mapping from path to ``created``, ``changed`` or ``removed``; empty when
    all is as wanted, which takes the owner root and the mode 0600 too.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.differences '{root: /tmp/rabbit_ha.x, files: [], stale: []}'
    """
    found = {path: "removed" for path in staged["stale"] if os.path.lexists(path)}
    for path in staged["files"]:
        if not os.path.lexists(path):
            found[path] = "created"
        elif not _is_as_staged(staged["root"], path):
            found[path] = "changed"
    return found


def _is_as_staged(root, path):
    """Tell whether a file has the content, the owner and the mode that it is to have."""
    there, wanted = pathlib.Path(path), pathlib.Path(_staged(root, path))
    status, expected = (
        (one.st_mode, one.st_uid, one.st_gid) for one in (there.lstat(), wanted.lstat())
    )
    return status == expected and there.read_bytes() == wanted.read_bytes()


def has_same_content(staged):
    """
    Tell whether what was put together is what is there, whoever may read that.

    staged
        What :func:`stage` returned.

    Returns a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.has_same_content '{root: /tmp/rabbit_ha.x, files: []}'
    """
    return all(
        os.path.isfile(path)
        and pathlib.Path(path).read_bytes()
        == pathlib.Path(_staged(staged["root"], path)).read_bytes()
        for path in staged["files"]
    )


def rabbitmq_check(path):
    """
    Give the command with which the installed RabbitMQ judges its configuration.

    It starts an Erlang VM beside the node, and reads what RabbitMQ's plugins say of their
    settings: the same that the node does before it boots.

    path
        Of ``rabbitmq.conf``.

    Returns a list, as :func:`judge` takes it; None where RabbitMQ is not installed, or its plugins,
    which have settings of their own, are not where its packages have them or in archives.

    See https://www.rabbitmq.com/docs/configure, https://www.rabbitmq.com/docs/installing-plugins.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.rabbitmq_check /etc/rabbitmq/rabbitmq.conf
    """
    erl, homes = shutil.which("erl"), glob.glob(_RABBITMQ_PLUGINS)
    folders = [*homes, _MORE_PLUGINS]
    code = _below(folders, "*/ebin")
    has_cuttlefish = any("/cuttlefish-" in folder for folder in code)
    if not erl or len(homes) != 1 or not has_cuttlefish or _below(folders, "*.ez"):
        return None
    environment = pathlib.Path(path).with_name("rabbitmq-env.conf")
    if environment.exists() and re.search("^[^#]*PLUGINS_DIR", environment.read_text(), re.M):
        return None
    # Erlang does not start without a home.
    command = ["env", "HOME=/", erl, "-noinput", "-boot", "no_dot_erlang", "-pa", *code]
    return [*command, "-eval", _CUTTLEFISH, "-extra", f"{{root}}{path}", *folders]


def _below(folders, pattern):
    """List what is in folders by a pattern."""
    return [
        path for folder in folders for path in sorted(glob.glob(f"{glob.escape(folder)}/{pattern}"))
    ]


def has_snippets(folder, suffix, snippets):
    """
    Tell whether there is anything in a folder of snippets, or would be.

    folder
        Path of the folder.
    suffix
        What the names of files in that folder end in, such as ``.cfg``.
    snippets
        Where pillar has snippets, as for :func:`stage`.

    Returns a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.has_snippets /etc/haproxy/conf .cfg \
            rabbit_ha:haproxy:snippets
    """
    described = __salt__["pillar.get"](snippets, {}, unmask=True)
    wanted = described.get("text") or described.get("source")
    return bool(wanted or _present(folder, suffix))


def judge(staged, check, program=None):
    """
    Let the program judge what was put together.

    staged
        What :func:`stage` returned.
    check
        List of a command and its arguments, in which ``{root}`` stands for where the
        files lie: ``[haproxy, -c, -f, '{root}/etc/haproxy/haproxy.cfg']``.
    program : the command's
        Name of the program, for the message.

    Raises CommandExecutionError, with what the command said, when it fails.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.judge '{root: /tmp/rabbit_ha.x, files: [], stale: []}' \
            '[haproxy, -c, -f, "{root}/etc/haproxy/haproxy.cfg"]'
    """
    root = staged["root"]
    said = refusal([argument.replace("{root}", root) for argument in check])
    if said:
        raise CommandExecutionError(
            f"{program or check[0]} refuses what pillar makes of it, so nothing was replaced: "
            f"{said.replace(root, '')}"
        )


def refusal(command):
    """
    Run a command that judges a configuration.

    command
        List of a command and its arguments: ``[haproxy, -c, -f, /etc/haproxy/haproxy.cfg]``.

    Returns None where it is content, else what it said, without the secrets of pillar.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.refusal '[haproxy, -c, -f, /etc/haproxy/haproxy.cfg]'
    """
    # What it says may quote a line that holds a secret.
    done = __salt__["cmd.run_all"](
        command,
        python_shell=False,
        redirect_stderr=True,
        ignore_retcode=True,
        output_loglevel="quiet",
    )
    if done["retcode"] == 0:
        return None
    # No function of a module's tells them, nor whether a text has one.
    pillar = __salt__["pillar.get"]("rabbit_ha", {}, unmask=True)
    settings = __utils__["rabbit_settings.merged"](__salt__["rabbit_topology.settings"](), pillar)
    said = __utils__["rabbit_settings.redacted"](done["stdout"], settings)
    return said or f"exit code {done['retcode']}"


def copy_to_keep(path):
    """
    Tell under which name a file that others wrote is to be kept.

    path
        Of the file.

    Returns a path; None where there is no file, where Salt wrote it, and where one was
    kept already.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.copy_to_keep /etc/rabbitmq/rabbitmq.conf
    """
    copy = f"{path}.before_salt"
    if os.path.exists(copy) or not os.path.exists(path):
        return None
    return None if WRITTEN in pathlib.Path(path).read_bytes() else copy


def keep(path):
    """
    Copy a file that others wrote, for its owner only, where that was not done before.

    path
        Of the file.

    Returns the path of the copy; None where :func:`copy_to_keep` says so.

    Raises CommandExecutionError when it cannot be written.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.keep /etc/rabbitmq/rabbitmq.conf
    """
    copy = copy_to_keep(path)
    if copy:
        half = f"{os.path.dirname(copy)}/.{os.path.basename(copy)}.new"
        try:
            _write(half, pathlib.Path(path).read_bytes())
            os.replace(half, copy)
        except OSError as err:
            raise CommandExecutionError(f"{copy} could not be written: {err}") from err
    return copy


def install(staged):
    """
    Have what was put together take the place of what is there, once all of it is written.

    staged
        What :func:`stage` returned.

    Raises CommandExecutionError when a file cannot be written or removed.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.install '{root: /tmp/rabbit_ha.x, files: [], stale: []}'
    """
    changes = differences(staged)
    written = [path for path, change in changes.items() if change != "removed"]
    # Beside its place, under a name that no program reads: a rename puts it there whole.
    beside = {path: f"{os.path.dirname(path)}/.{os.path.basename(path)}.new" for path in written}
    try:
        for path in written:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(beside[path], pathlib.Path(_staged(staged["root"], path)).read_bytes())
        for path in changes:
            os.replace(beside[path], path) if path in beside else os.remove(path)
    except OSError as err:
        for path in beside.values():
            pathlib.Path(path).unlink(missing_ok=True)
        raise CommandExecutionError(f"it could not be written: {err}") from err


def _write(path, content):
    """Write a file that only its owner can read, and have it on the disk."""
    # The folder of RabbitMQ's configuration belongs to its account.
    __utils__["rabbit_service_files.create"](path, content, MODE)


def discard(staged):
    """
    Remove what was put together to be judged.

    staged
        What :func:`stage` returned.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_configuration.discard '{root: /tmp/rabbit_ha.x}'
    """
    # What is left is removed by the next run.
    shutil.rmtree(staged["root"], ignore_errors=True)
