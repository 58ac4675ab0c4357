"""
This host's view of the topology that the pillar key ``rabbit_ha`` describes.

Templates and SLS files print what these functions return; nothing here changes
anything.
"""

import ipaddress
import os

import salt.utils.yaml
from salt.exceptions import CommandExecutionError, SaltInvocationError

DEFAULTS = "salt://rabbit_ha/defaults.yaml"
# Where RabbitMQ's metrics are unless its configuration says otherwise.
PROMETHEUS_PORT = 15692
# What a service may open unless systemd is told otherwise.
OPEN_FILES = 524288
# What keepalived reads unless it is told otherwise.
KEEPALIVED_CONF = "/etc/keepalived/keepalived.conf"
# What `listen rabbitmq_cluster` says of how HAProxy checks a broker.
PROBES = {
    "connect": [],
    "management": ["option httpchk GET /", "http-check expect status 200"],
    # A client's greeting; what RabbitMQ answers it with is the method connection.start.
    "amqp": [
        "option tcp-check",
        "tcp-check send-binary 414d515000000901",
        "tcp-check expect binary 000a000a",
    ],
}


def settings():
    """
    Merge pillar over the defaults.

    Returns a mapping with the keys of ``salt/rabbit_ha/defaults.yaml``, each secret
    as None: what is returned may be printed and kept with the job. Templates take
    secrets from pillar itself.

    Raises SaltInvocationError with all errors of pillar, a line each, and
    CommandExecutionError when the file server does not serve the defaults.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.settings --out=yaml
    """
    key = "rabbit_topology.settings"
    if key not in __context__:
        errors = pillar_errors()
        if errors:
            lines = "\n".join(errors)
            raise SaltInvocationError(
                "nothing was done, pillar is wrong (all of it: salt-run rabbit_ha.validate; where "
                "that finds nothing, the minion has an older pillar: "
                f"salt {__grains__['id']} saltutil.refresh_pillar):\n{lines}"
            )
        __context__[key] = __utils__["rabbit_settings.without_secrets"](_merged())
    return __context__[key]


def _merged():
    """Merge pillar over the defaults, with all secrets."""
    text = __salt__["cp.get_file_str"](DEFAULTS)
    if not text:
        why = __utils__["rabbit_settings.not_served"](DEFAULTS)
        raise CommandExecutionError(f"{why} (see docs/production.md)")
    return __utils__["rabbit_settings.merged"](
        salt.utils.yaml.safe_load(text), _pillar().get("rabbit_ha"), __grains__.get("os_family")
    )


def _pillar():
    """Give the pillar this job works with; see :func:`use_current_pillar`."""
    return __context__.get("rabbit_topology.pillar", __pillar__)


def use_current_pillar():
    """
    Have this job work with pillar as it is on the master now.

    A state run compiles pillar anew; a function called by itself has what the
    minion got at its start or last refresh, which may be older than the topology.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.use_current_pillar
    """
    __context__.pop("rabbit_topology.settings", None)
    __context__["rabbit_topology.pillar"] = __salt__["pillar.items"](unmask=True)


def pillar_errors():
    """
    List what the check of pillar on the master found wrong with this host's pillar.

    Returns a list of sentences with the pillar path; one that was not checked has
    an error that says so.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.pillar_errors
    """
    return __utils__["rabbit_settings.pillar_errors"](_pillar())


def host():
    """
    Describe this host as pillar does.

    Returns a mapping with ``address``, ``roles`` and what pillar adds for this
    host; an empty mapping when the topology does not name this minion.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.host
    """
    return settings()["hosts"].get(__grains__["id"], {})


def roles():
    """
    List the roles of this host.

    Returns a list out of ``broker`` and ``load_balancer``; empty for a minion
    that the topology does not name.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.roles
    """
    return list(host().get("roles", []))


def host_addresses():
    """
    List all hosts of the topology with their names and addresses.

    Returns a list of mappings with ``address`` and ``names`` (the host name and,
    where that has a domain, its short form, which Erlang uses).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.host_addresses
    """
    return [
        {"address": data["address"], "names": list(dict.fromkeys([name, name.split(".", 1)[0]]))}
        for name, data in settings()["hosts"].items()
    ]


def brokers():
    """
    List the brokers.

    Returns a list of mappings with ``host``, ``address`` and ``node`` (the Erlang
    node name), in the order of pillar.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.brokers
    """
    hosts = settings()["hosts"]
    return [
        {"host": name, "address": hosts[name]["address"], "node": node_name(name)}
        for name in __utils__["rabbit_settings.hosts_with_role"](settings(), "broker")
    ]


def node_name(name=None):
    """
    Tell the Erlang node name of a broker.

    name : this host
        Host name (minion id) of a broker.

    Returns a string such as ``rabbit@rabbitmq-node1``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.node_name
    """
    return __utils__["rabbit_settings.node_name"](name or __grains__["id"])


def node_dir():
    """
    Tell the folder of this broker's own data.

    Returns a path such as ``/var/lib/rabbitmq/mnesia/rabbit@rabbitmq-node1``.

    See https://www.rabbitmq.com/docs/relocate.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.node_dir
    """
    return os.path.join(settings()["rabbitmq"]["data_dir"], "mnesia", node_name())


def nodes():
    """
    List the Erlang node names of all brokers, in the order of pillar.

    Returns a list of strings such as ``rabbit@rabbitmq-node1``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.nodes
    """
    return [broker["node"] for broker in brokers()]


def seed_node():
    """
    Tell the Erlang node name of the broker that the others join.

    Returns a string such as ``rabbit@rabbitmq-node1``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.seed_node
    """
    return node_name(seed_host())


def seed_host():
    """
    Tell the host name of the broker that the others join.

    Returns a string, the minion id; None where there is no broker.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.seed_host
    """
    return __utils__["rabbit_settings.seed_host"](settings())


def brokers_in_join_order():
    """
    List the brokers' host names in the order they join: the seed first.

    Returns a list of strings.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.brokers_in_join_order
    """
    names = [broker["host"] for broker in brokers()]
    return sorted(names, key=lambda name: name != seed_host())


def load_balancers():
    """
    List the host names of the load balancers, in the order of pillar.

    Returns a list of strings.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.load_balancers
    """
    return __utils__["rabbit_settings.hosts_with_role"](settings(), "load_balancer")


def load_balancers_in_start_order():
    """
    Group the load balancers in the order keepalived starts: backups, then who holds an address.

    Returns a list of lists of host names: who is in one of them starts at the same time.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.load_balancers_in_start_order
    """
    return __utils__["rabbit_settings.load_balancers_in_start_order"](settings())


def is_seed():
    """
    Tell whether this host is the broker that the others join.

    Returns a boolean.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.is_seed
    """
    return seed_host() == __grains__["id"]


def contacts():
    """
    List the Erlang node names of all brokers, the seed first.

    Returns a list of strings such as ``rabbit@rabbitmq-node1``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.contacts
    """
    return sorted(nodes(), key=lambda node: node != seed_node())


def erlang_cookie_source():
    """
    Tell where this broker's Erlang cookie comes from, without showing it.

    Returns ``pillar``, ``seed`` (the orchestration carries it here) or ``self``
    (this is the seed and pillar gives none).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.erlang_cookie_source
    """
    if _pillar().get("rabbit_ha", {}).get("rabbitmq", {}).get("erlang_cookie"):
        return "pillar"
    return "self" if is_seed() else "seed"


def rabbitmq_config():
    """
    Compute the lines of ``rabbitmq.conf`` on this broker.

    Returns a mapping from key to value; pillar's ``rabbitmq:config`` comes last
    and wins. A secret is None: the template takes it from pillar.

    On a host that is a load balancer too, RabbitMQ leaves the virtual addresses'
    port to HAProxy and listens on the host's own addresses only.

    See https://www.rabbitmq.com/docs/configure.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.rabbitmq_config
    """
    rabbitmq = settings()["rabbitmq"]
    port = rabbitmq["amqp_port"]
    if "load_balancer" in roles():
        listeners = {
            "listeners.tcp.host": f"{host()['address']}:{port}",
            "listeners.tcp.local": f"127.0.0.1:{port}",
        }
    else:
        listeners = {"listeners.tcp.default": port}
    computed = {**listeners, "management.tcp.port": rabbitmq["management_port"]}
    if rabbitmq["prometheus"]["enabled"] and rabbitmq["prometheus"]["port"] != PROMETHEUS_PORT:
        computed["prometheus.tcp.port"] = rabbitmq["prometheus"]["port"]
    if proxy_protocol():
        computed["proxy_protocol"] = "true"
    if len(brokers()) > 2:
        # With a majority to be had, the smaller side of a partition stops
        # rather than accepting messages that healing would throw away.
        computed["cluster_partition_handling"] = "pause_minority"
    return {**computed, **rabbitmq["config"]}


def reached_at():
    """
    Tell where HAProxy, and on hosts of both roles HAProxy beside RabbitMQ, wants this broker.

    Returns a mapping with ``ports``, a mapping from ``amqp``, and from ``http`` where HAProxy's
    checks ask the management UI, to ports; and ``left_to_haproxy``, a boolean: whether HAProxy
    listens for clients on the same port of this host.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.reached_at
    """
    rabbitmq, cluster = settings()["rabbitmq"], settings()["haproxy"]["rabbitmq_cluster"]
    ports = {"amqp": rabbitmq["amqp_port"]}
    if load_balancers() and cluster["probe"] == "management":
        ports["http"] = rabbitmq["management_port"]
    _, port = __utils__["rabbit_settings.address_and_port"](cluster["bind"])
    same = int(port) == rabbitmq["amqp_port"]
    return {"ports": ports, "left_to_haproxy": same and "load_balancer" in roles()}


def policies():
    """
    Compute the policies of the cluster: what pillar says, with what presets stand for.

    Returns a mapping from pillar's keys to mappings with ``name``, ``vhost`` and either
    ``pattern``, ``definition``, ``priority`` and ``apply-to``, or ``absent``.

    See https://www.rabbitmq.com/docs/policies.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.policies
    """
    return __utils__["rabbit_settings.policies"](settings())


def haproxy():
    """
    Compute what ``haproxy.cfg`` says on this load balancer.

    Returns the mapping ``haproxy`` of :func:`settings` with these keys added:
    ``program`` (its path), ``program_as_built`` (the link to the source build in use),
    ``unit_as_built`` (the path of its unit file),
    ``arguments`` (a list: how the program is told what to read), ``servers`` (a list of
    mappings ``host``, ``address``, ``port``, ``management_port``, ``check`` and ``options``,
    a list of what else its line says), ``binds`` (a mapping from each listener to a list of
    what it binds to), ``probe`` (a list of lines: what a check does), ``runtime_folders`` (a
    list of folders below ``/run``, without that, which are gone after a boot) and
    ``open_files`` (how many it may need; None where systemd allows as many to every service).
    Built from source, it has the option that metrics need.

    See http://docs.haproxy.org/2.6/configuration.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.haproxy
    """
    view = dict(settings()["haproxy"])
    view["program"] = _program("haproxy", view["install"])
    view["program_as_built"] = _program("haproxy", "source")
    view["unit_as_built"] = _unit_as_built(view["service"])
    view["arguments"] = ["-f", view["config_file"], "-f", view["config_dir"]]
    cluster = view["rabbitmq_cluster"]
    hosts = settings()["hosts"]
    if view["prometheus"]["enabled"]:
        options = {"USE_PROMEX": 1, **view["source"]["options"]}
        view["source"] = {**view["source"], "options": options}
    view["probe"] = PROBES[cluster["probe"]]
    view["runtime_folders"] = _runtime_folders(view["runtime_socket"], view["global"]["pidfile"])
    # Two for each connection, and some for listeners and checks.
    open_files = 2 * view["global"]["maxconn"] + 1000
    view["open_files"] = open_files if open_files > OPEN_FILES else None
    view["servers"] = [
        {
            "host": broker["host"],
            "address": broker["address"],
            "port": settings()["rabbitmq"]["amqp_port"],
            "management_port": settings()["rabbitmq"]["management_port"],
            "check": {**cluster["check"], **hosts[broker["host"]].get("check", {})},
            "options": _server_options(broker["host"]),
        }
        for broker in brokers()
    ]
    listeners = ("rabbitmq_cluster", "management", "prometheus", "monitor")
    binds = {name: [view[name]["bind"]] for name in listeners}
    addresses = __utils__["rabbit_settings.virtual_addresses"](settings())
    if "broker" in roles():
        # RabbitMQ has the port on the host's own address; HAProxy binds no link-local one.
        _, port = __utils__["rabbit_settings.address_and_port"](cluster["bind"])
        link_local = __utils__["rabbit_settings.is_link_local"]
        binds["rabbitmq_cluster"] = [
            f"{address}:{port}" for address in addresses if not link_local(address)
        ]
    view["binds"] = {
        name: [_bind(bind, addresses) for bind in said] for name, said in binds.items()
    }
    return view


def haproxy_check(root=""):
    """
    Tell the command with which HAProxy judges its configuration.

    root : ""
        What stands before the paths: ``{root}`` for ``rabbit_configuration.judge``.

    Returns a list of a command and its arguments.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.haproxy_check
    """
    view = haproxy()
    files = (view["config_file"], view["config_dir"])
    return [view["program"], "-c", *(word for path in files for word in ("-f", f"{root}{path}"))]


def _runtime_folders(*paths):
    """List the folders below ``/run`` that files are in, without ``/run`` itself."""
    folders = [os.path.dirname(os.path.normpath(path)).removeprefix("/var") for path in paths]
    below = [folder.removeprefix("/run/") for folder in folders if folder.startswith("/run/")]
    return list(dict.fromkeys(below))


def _program(name, install):
    """Tell where a program is: the package's, or the link to the build that is used."""
    return f"/usr{'/local' if install == 'source' else ''}/sbin/{name}"


def _unit_as_built(service):
    """Tell where a build's unit is: systemd looks there before it looks at a package's."""
    return f"/usr/local/lib/systemd/system/{service}.service"


def _bind(bind, virtual_addresses):
    """Add what lets HAProxy bind an address that the host does not hold right now."""
    address, _ = __utils__["rabbit_settings.address_and_port"](bind)
    if address in ("", "*"):
        return bind
    moves = ipaddress.ip_address(address) in map(ipaddress.ip_address, virtual_addresses)
    return f"{bind} transparent" if moves else bind


def _server_options(host):
    """List what a broker's server line says beside its check."""
    cluster = settings()["haproxy"]["rabbitmq_cluster"]
    options = []
    version = proxy_protocol(host)
    if cluster["probe"] == "management":
        options.append(f"port {settings()['rabbitmq']['management_port']}")
    elif version:
        # A port that is named is checked without a word: RabbitMQ's reader crashes, and logs
        # 40 lines, on the header that HAProxy would send for itself.
        options.append(f"port {settings()['rabbitmq']['amqp_port']}")
    if cluster["on-marked-down"]:
        options.append(f"on-marked-down {cluster['on-marked-down']}")
    if version:
        options.append({"v1": "send-proxy", "v2": "send-proxy-v2"}[version])
    return options


def proxy_protocol(name=None):
    """
    Tell in which version of the PROXY protocol HAProxy tells a broker who its clients are.

    name : this host
        Host name (minion id) of a broker.

    Returns ``v1``, ``v2``, or None where the broker expects none.

    See https://www.rabbitmq.com/docs/networking#proxy-protocol.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.proxy_protocol
    """
    of_all = settings()["haproxy"]["rabbitmq_cluster"]["proxy_protocol"]
    return settings()["hosts"].get(name or __grains__["id"], {}).get("proxy_protocol", of_all)


def plugins():
    """
    List the plugins of RabbitMQ that pillar asks for.

    Returns a list of names, each once, in the order of pillar.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.plugins
    """
    rabbitmq = settings()["rabbitmq"]
    metrics = ["rabbitmq_prometheus"] if rabbitmq["prometheus"]["enabled"] else []
    return list(dict.fromkeys([*rabbitmq["plugins"], *metrics]))


def monitor_endpoint():
    """
    Tell where this host itself reaches HAProxy's monitor listener.

    Returns a mapping with ``address``, without brackets, and ``port``, both strings.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.monitor_endpoint
    """
    bind = settings()["haproxy"]["monitor"]["bind"]
    address, port = __utils__["rabbit_settings.address_and_port"](bind)
    local = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    return {"address": local.get(address, address), "port": str(port)}


def keepalived():
    """
    Compute what ``keepalived.conf`` says on this load balancer.

    Returns the mapping ``keepalived`` of :func:`settings` with these keys added or made
    concrete: ``program``, its path; ``program_as_built``, the link to the source build in
    use; ``unit_as_built``, the path of its unit file;
    ``arguments``, a list: how the program is told what to read, and
    ``needed_arguments``, those without which it would read another file; ``judge``, the
    path of the script that lets it judge its configuration; ``router_id``; ``address``,
    this host's own; ``notify_script``, its path;
    ``include``, the pattern of the files in ``config_dir``; and ``instances``, a mapping
    from name to what each VRRP instance says: ``state``, ``priority``, ``interface``,
    ``virtual_addresses`` (as keepalived takes them) and the like, ``authenticates``
    (boolean), ``auth_pass_at`` (the pillar path of the password) and ``peers`` (the
    addresses that unicast goes to; empty for multicast).

    Raises SaltInvocationError when the interface can be told neither from pillar
    nor from the host's address.

    See https://keepalived.readthedocs.io/en/latest/configuration_synopsis.html.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.keepalived
    """
    view = __utils__["rabbit_settings.keepalived_of"](settings(), __grains__["id"])
    for vrrp in view["instances"].values():
        vrrp["interface"] = vrrp["interface"] or interface()
        # VRRPv3 has none.
        vrrp["authenticates"] = vrrp["version"] == 2
        vrrp["auth_pass_at"] = f"rabbit_ha:{vrrp['said_at']['auth_pass']}:auth_pass"
        vrrp["peers"] = unicast_peers() if vrrp["unicast"] else []
    view["program"] = _program("keepalived", view["install"])
    view["program_as_built"] = _program("keepalived", "source")
    view["unit_as_built"] = _unit_as_built(view["service"])
    view["arguments"] = ["--dont-fork", "--use-file", view["config_file"]]
    elsewhere = view["config_file"] != KEEPALIVED_CONF
    view["needed_arguments"] = view["arguments"] if elsewhere else []
    view["judge"] = os.path.join(os.path.dirname(view["config_file"]), "check_configuration.sh")
    view["address"] = host().get("address")
    view["notify_script"] = os.path.join(os.path.dirname(view["script"]), "vrrp_state.sh")
    # From where the main file is, so that keepalived can judge both anywhere else.
    folder = os.path.relpath(view["config_dir"], os.path.dirname(view["config_file"]))
    view["include"] = f"{folder}/*.conf"
    return view


def balancing():
    """
    Tell what HAProxy and keepalived are set to be here, also on a host that balances nothing.

    Returns a mapping with ``haproxy`` and ``keepalived``, mappings as :func:`settings` has
    them, with what pillar says of this host's keepalived.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.balancing
    """
    shared = settings()
    own = __utils__["rabbit_settings.keepalived_of"](shared, __grains__["id"])
    return {"haproxy": shared["haproxy"], "keepalived": own}


def keepalived_check(root=""):
    """
    Tell the command with which keepalived judges its configuration.

    root : ""
        What stands before the paths: ``{root}`` for ``rabbit_configuration.judge``.

    Returns a list of a command and its arguments.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.keepalived_check
    """
    view = keepalived()
    files = [f"{root}{view[key]}" for key in ("config_file", "config_dir")]
    return [view["judge"], *files, view["program"]]


def unicast_peers():
    """
    List the addresses of the other load balancers.

    Returns a list of IP addresses, in the order of pillar.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.unicast_peers
    """
    hosts = settings()["hosts"]
    return [hosts[name]["address"] for name in load_balancers() if name != __grains__["id"]]


def addresses_taken():
    """
    List the virtual addresses that this load balancer takes as soon as it can.

    Returns a list of addresses: of the VRRP instances in which this host comes first,
    without those that stay where they are (``nopreempt``, ``preempt_delay``).

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.addresses_taken
    """
    return __utils__["rabbit_settings.addresses_taken"](settings(), __grains__["id"])


def seconds_to_take():
    """
    Tell how long this load balancer may need until it holds the addresses that it takes.

    Returns seconds, a whole number, which grows with ``advert_int``.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.seconds_to_take
    """
    return __utils__["rabbit_settings.seconds_to_take"](settings(), __grains__["id"])


def interface():
    """
    Find the network interface that carries this host's own address.

    Returns the interface's name.

    Raises SaltInvocationError when no interface has that address.

    CLI Example:

    .. code-block:: bash

        salt-call rabbit_topology.interface
    """
    wanted = ipaddress.ip_address(host()["address"])
    found = {**__grains__.get("ip4_interfaces", {})}
    for name, addresses in __grains__.get("ip6_interfaces", {}).items():
        found[name] = [*found.get(name, []), *addresses]
    for name, addresses in found.items():
        if any(ipaddress.ip_address(address) == wanted for address in addresses):
            return name
    raise SaltInvocationError(
        f"no interface has {wanted}, the address that pillar gives this host; "
        f"found {found}. Correct rabbit_ha:hosts:{__grains__['id']}:address, or name the "
        f"interface in rabbit_ha:hosts:{__grains__['id']}:keepalived:interface"
    )
