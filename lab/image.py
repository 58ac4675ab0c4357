"""Builds the base image of a Debian release, once, and keeps it in the cache.

An image is a folder with `root` (what hosts start from) and `archive` (the packages that Salt
installs later). It is built under another name and renamed when complete, so that an image
that exists is whole. Its name holds a hash of everything that defines it: another recipe or
another lock is another image.
"""

import hashlib
import json
import os
import shutil
import sys

from lab import archive, cgroup, disk, lockfile, paths, record
from lab.command import run, stream

RELEASES = ("bookworm", "trixie", "forky")

# What building HAProxy and keepalived needs; no more, or builds would not show that it is enough.
BUILD_PACKAGES = [
    *("gcc", "libc6-dev", "make", "pkg-config", "libssl-dev", "libpcre2-dev", "zlib1g-dev"),
    *("libsystemd-dev", "libnl-3-dev", "libnl-genl-3-dev"),
]
# A running system, a place for Salt, and the above.
PACKAGES = [
    *("systemd", "systemd-sysv", "dbus", "iproute2", "iputils-ping", "procps", "less"),
    *("ca-certificates", "curl", "nftables"),
    *("python3", "python3-venv", "python3-dev", "python3-apt"),
    *BUILD_PACKAGES,
]
# Gone from Debian after bookworm.
PACKAGES_OF = {"bookworm": ["libpcre3-dev"]}

# What a lab host has no use for and what would cost time at each boot.
MASKED = [
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("fstrim.timer", "man-db.timer", "systemd-tmpfiles-clean.timer", "motd-news.timer"),
    *("console-getty.service", "getty.target", "systemd-resolved.service"),
    *("systemd-timesyncd.service", "systemd-networkd-wait-online.service"),
]

MINION_UNIT = """\
[Unit]
Description=The Salt Minion
After=network.target

[Service]
Type=notify
NotifyAccess=all
# As in Salt's own unit: a job that restarts the minion must survive that.
KillMode=process
LimitNOFILE=8192
ExecStart=/usr/local/bin/salt-minion
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""

FILES = {
    "etc/apt/sources.list.d/lab.list": f"deb [trusted=yes] file:{archive.IN_HOST} ./\n",
    "etc/dpkg/dpkg.cfg.d/lab": "# Hosts are disposable: no fsync for each unpacked file.\n"
    "force-unsafe-io\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/locale.conf": "LANG=C.UTF-8\n",
    "etc/systemd/system/salt-minion.service": MINION_UNIT,
}

# pip's settings that mean something inside an image; the others name files of the machine.
PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "trusted-host", "default-timeout",
                "timeout", "retries")  # fmt: skip
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def ensure(release, progress):
    """Return the Path of a release's image, building it when it is missing.

    Parameters:
        release: one of RELEASES.
        progress: shows the steps.

    Raises:
        LabError: a step of the build failed.
    """
    image = paths.cache_root() / "images" / f"{release}-{_recipe_hash(release)}"
    if image.is_dir():
        return image
    # Two labs may come up side by side, but one of them builds.
    with record.held(f"image-{release}", progress.say):
        if not image.is_dir():
            _build(release, image, progress)
    return image


def _build(release, image, progress):
    """Build an image under another name, then give it its own."""
    building = image.with_name(f"{image.name}.building")
    # Named after the cache as well: another cache may hold a build of its own.
    cache = hashlib.sha256(str(image.parent).encode()).hexdigest()[:6]
    group = cgroup.group(".build", f"{release}-{cache}")
    # What an interrupted build may have left: its processes first, then its files.
    cgroup.kill(group)
    for unfinished in image.parent.glob(f"{release}-*.building"):
        with progress.step(f"{release}: removing an unfinished image"):
            disk.remove(unfinished)
    building.mkdir(parents=True)
    progress.say(f"Building the image of {release}; it is kept in {image}")
    root = building / "root"
    try:
        _bootstrap(release, root, group, progress)
        archive.build(release, root, building / "archive", group, progress)
        _install_salt(release, root, group, progress)
        with progress.step(f"{release}: settings of the image"):
            _configure(root)
    finally:
        cgroup.kill(group)
        cgroup.remove_empty()
    building.rename(image)


def _recipe_hash(release):
    """Return a short hash of everything that makes an image of this release what it is."""
    recipe = {
        "release": release,
        "packages": PACKAGES + PACKAGES_OF.get(release, []),
        "archive": [archive.PACKAGES, archive.SOURCES],
        "masked": MASKED,
        "files": FILES,
        "salt": lockfile.subset(paths.LOCK_FILE.read_text(), "salt"),
        # Bump when the steps below change.
        "steps": 2,
    }
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


def _bootstrap(release, root, group, progress):
    """Install Debian into `root`."""
    packages = PACKAGES + PACKAGES_OF.get(release, [])
    # A mount namespace of its own: what it mounts goes with it, even when it is killed.
    command = ["unshare", "--mount", "--propagation", "private"]
    command += ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(packages)}"]
    for option in archive.apt_options(release):
        command.append(f"--aptopt={option}")
    command += [release, root, archive.mirror()]
    with progress.step(f"{release}: Debian packages of the image") as step:
        stream(command, f"image of {release}", step.note, group)


def _install_salt(release, root, group, progress):
    """Install the locked Salt into /opt/salt of the image."""
    wanted = root / "opt" / "salt.lock"
    wanted.write_text(lockfile.subset(paths.LOCK_FILE.read_text(), "salt"))
    environment, borrowed = _pip_environment(root)
    resolver = root / "etc" / "resolv.conf"
    shutil.copyfile("/etc/resolv.conf", resolver)
    script = (
        "python3 -m venv /opt/salt && /opt/salt/bin/python -m pip install --require-hashes "
        "--no-cache-dir -r /opt/salt.lock && "
        "ln -s /opt/salt/bin/salt-call /opt/salt/bin/salt-minion /usr/local/bin/"
    )
    # A process and mount namespace of its own: /proc is there, and nothing stays behind.
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child",
               f"--mount-proc={root}/proc", "chroot", root, "/bin/sh", "-c", script]  # fmt: skip
    with progress.step(f"{release}: Salt and what it needs, from requirements.lock") as step:
        stream(command, f"image of {release}: Salt", step.note, group, env=environment)
    for path in (wanted, resolver, *borrowed):
        path.unlink()


def _pip_environment(root):
    """Return the environment for pip inside the image, and the files lent to it.

    The machine's pip may have to use another index, a proxy or a CA of its own.
    """
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_PROGRESS_BAR": "off",
    }
    environment |= {name: os.environ[name] for name in PROXIES if name in os.environ}
    settings = _pip_settings()
    for name in PIP_SETTINGS:
        words = [word for word in settings.get(name, "").split() if not word.startswith("file:")]
        if words:
            environment["PIP_" + name.upper().replace("-", "_")] = " ".join(words)
    bundle = settings.get("cert") or os.environ.get("SSL_CERT_FILE")
    if not bundle:
        return environment, []
    lent = root / "opt" / "ca.pem"
    shutil.copyfile(bundle, lent)
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        environment[name] = "/opt/ca.pem"
    return environment, [lent]


def _pip_settings():
    """Return the machine's pip settings, whether from a file or from the environment."""
    listed = run([sys.executable, "-m", "pip", "config", "list"], "reading pip's settings")
    settings = {}
    for line in listed.stdout.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            settings[key.rpartition(".")[2]] = value.strip("'\"")
    return settings


def _configure(root):
    """Write the settings all hosts share."""
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for path in (root / "etc/apt/sources.list.d").iterdir():
        path.unlink()
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("etc/hostname", "etc/machine-id", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)
    systemctl = ["systemctl", f"--root={root}"]
    run([*systemctl, "mask", *MASKED], "image: masking units")
    run([*systemctl, "enable", "systemd-networkd.service", "salt-minion.service"], "image: units")
    run([*systemctl, "set-default", "multi-user.target"], "image: default target")
