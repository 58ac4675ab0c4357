"""The package archive inside the lab: what Salt installs, and nothing that needs a way out."""

import gzip
import hashlib
import os
import shutil
import subprocess
from datetime import UTC, datetime

from lab.command import run, stream
from lab.errors import LabError

# What Salt's states install. Everything these need and the image lacks comes with them.
PACKAGES = ["rabbitmq-server", "haproxy", "keepalived"]
# Whose upstream source is kept too, for hosts that build from source.
SOURCES = ["haproxy", "keepalived"]

# Where hosts see the archive, read-only.
IN_HOST = "/srv/archive"

_DEFAULT_MIRROR = "http://deb.debian.org/debian"


def mirror():
    """Return the Debian mirror that this machine's own apt uses."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(SITE)"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listed.stdout.splitlines():
        origin, label, site = line.split("|", 2)
        if origin == label == "Debian":
            return site
    return _DEFAULT_MIRROR


def apt_options(release):
    """Return apt settings needed to read a release: the machine's proxies among them."""
    options = []
    dumped = run(["apt-config", "dump", "Acquire"], "reading apt's settings").stdout
    for line in dumped.splitlines():
        if "::Proxy" in line and not line.endswith('"";'):
            options.append(line)
    if release == "forky":
        # A testing release may lie untouched longer than its release file is valid.
        options.append('Acquire::Check-Valid-Until "false"')
    return options


def build(release, root, archive, group, progress):
    """Download the packages into a folder and index it.

    Parameters:
        release: the Debian release.
        root: the image the packages will be installed on.
        archive: the folder to create.
        group: the control group for the processes of the build.
        progress: shows the steps.

    Raises:
        LabError: a download failed.
    """
    archive.mkdir()
    scratch = archive / "scratch"
    for name in ("state/lists/partial", "cache/archives/partial", "parts"):
        (scratch / name).mkdir(parents=True)
    sources = scratch / "sources.list"
    sources.write_text(f"deb {mirror()} {release} main\ndeb-src {mirror()} {release} main\n")
    apt = ["apt-get", "--yes", "-q", "--no-install-recommends"]
    # This machine's apt, told that the image is its system.
    for key, value in {
        "Dir::State": scratch / "state",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": scratch / "parts",
        "Dir::Etc::preferencesparts": scratch / "parts",
        "APT::Sandbox::User": "root",
        "Binary::apt-get::APT::Keep-Downloaded-Packages": "true",
    }.items():
        apt += ["-o", f"{key}={value}"]
    for option in apt_options(release):
        apt += ["-o", option.replace(' "', "=").rstrip('";')]
    what = f"archive of {release}"
    with progress.step(f"{what}: package lists") as step:
        stream([*apt, "update"], what, step.note, group)
    with progress.step(f"{what}: {', '.join(PACKAGES)} and what they need") as step:
        stream([*apt, "install", "--download-only", *PACKAGES], what, step.note, group)
    for deb in sorted((scratch / "cache/archives").glob("*.deb")):
        # apt would take the %3a of an epoch in a file name for an encoded colon.
        deb.rename(archive / deb.name.replace("%3a", "."))
    folder = archive / "sources"
    folder.mkdir()
    for package in SOURCES:
        with progress.step(f"{what}: source of {package}") as step:
            source = [*apt, "source", "--download-only", "--tar-only", package]
            try:
                stream(source, what, step.note, group, cwd=folder)
            except LabError:
                # A mirror of a testing release may not have it; only source builds miss it.
                progress.say(f"{what}: the mirror has no source of {package}; going on without")
    shutil.rmtree(scratch)
    with progress.step(f"{what}: index"):
        index(archive)


def index(archive):
    """Write `Packages` and `Release`, so that apt takes the folder for an archive.

    Parameters:
        archive: the folder that holds the .deb files.
    """
    entries = []
    for deb in sorted(archive.glob("*.deb")):
        control = run(["dpkg-deb", "--field", deb], f"archive: reading {deb.name}").stdout
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        entries.append(
            f"{control.rstrip()}\nFilename: ./{deb.name}\n"
            f"Size: {deb.stat().st_size}\nSHA256: {digest}\n"
        )
    packages = "\n".join(entries).encode()
    files = {"Packages": packages, "Packages.gz": gzip.compress(packages)}
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S UTC")
    lines = ["Origin: rabbit-ha-lab", "Label: rabbit-ha-lab", f"Date: {date}", "SHA256:"]
    for name, content in files.items():
        (archive / name).write_bytes(content)
        lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}")
    (archive / "Release").write_text("\n".join(lines) + "\n")
    # Hosts read it as the user _apt.
    for path in archive.rglob("*"):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
