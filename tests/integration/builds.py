"""
HAProxy and keepalived built from source on a lab's hosts.

Both are really built, on one host; the builds are kept for the next run, beside the
lab's images, until what builds them changes.
"""

import hashlib
import json
import os
import pathlib
import subprocess

from tests.integration.lab import CHECKOUT

PROGRAMS = ("haproxy", "keepalived")
# What Debian's source archive, and so the lab's, has for each release.
VERSIONS = {
    "bookworm": {"haproxy": "2.6.12", "keepalived": "2.2.7"},
    "trixie": {"haproxy": "3.0.11", "keepalived": "2.3.3"},
    # Of forky's HAProxy the archive has no source.
    "forky": {"keepalived": "2.3.4"},
}
PREFIX = {"haproxy": {"PREFIX": "/usr/local/haproxy"}}
PREFIX["keepalived"] = {"prefix": "/usr/local/keepalived", "sysconfdir": "/etc"}
# A build is kept as long as these are the same.
BUILDERS = ["_utils/source_build.py", "_modules/haproxy_build.py", "_modules/keepalived_build.py"]


def source_of(release, program):
    """What pillar says of a program's source in a lab of a release."""
    version = VERSIONS[release][program]
    return {
        "version": version,
        "url": f"/srv/archive/sources/{program}_{version}.orig.tar.gz",
        "options": PREFIX[program],
    }


def on_hosts(lab, hosts, program):
    """Build a program unless a former run did, and have the build on hosts; returns its path."""
    code = b"".join((CHECKOUT / path).read_bytes() for path in BUILDERS)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    kept = cache / "rabbit-ha-lab" / "builds"
    kept.mkdir(parents=True, exist_ok=True)
    wanted = source_of(lab.release, program)
    path = path_of(lab, hosts[-1], program, wanted)
    digest = hashlib.sha256(code).hexdigest()[:8]
    archive = kept / f"{lab.release}-{digest}-{pathlib.Path(path).name}.tar.gz"
    roots = {host: lab.status()["hosts"][host]["root"] for host in hosts}
    if not archive.exists():
        assert _call(lab, hosts[-1], f"{program}_build.build", wanted) == path
        half = archive.with_suffix(".half")
        pack = ["tar", "-czf", half, "-C", roots[hosts[-1]], path.lstrip("/")]
        subprocess.run(pack, check=True)
        half.rename(archive)
    for root in roots.values():
        if not (pathlib.Path(root) / path.lstrip("/")).exists():
            subprocess.run(["tar", "-xzf", archive, "-C", root], check=True)
    return path


def path_of(lab, host, program, source):
    """Where the build of a source is on a host, or will be."""
    return _call(lab, host, f"{program}_build.plan", source)["path"]


def _call(lab, host, function, source):
    """Run a function on a host, where nobody stops waiting however long it takes."""
    arguments = [f"{key}={json.dumps(value)}" for key, value in source.items()]
    done = lab.exec(host, "salt-call", "--out=json", "--log-level=error", function, *arguments)
    return json.loads(done.stdout)["local"]
