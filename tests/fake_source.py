"""
Source archives of programs so small that building one takes milliseconds.

What is run on them is the real thing: tar, make, the program.
"""

import gzip
import hashlib
import io
import tarfile

from tests.support import ROOT, functions, load

MAKEFILE = """\
all: {program}
{program}: {program}.in
\tcp $< $@
\techo "$(TARGET) $(USE_PCRE2) $(PREFIX)" > options
install:
\tmkdir -p $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)/etc/{program}
\tinstall -m 755 {program} $(DESTDIR)$(PREFIX)/sbin/{program}
\techo sample > $(DESTDIR)/etc/{program}/{program}.conf
"""
CONFIGURE = """\
#!/bin/sh
for argument; do case $argument in --prefix=*) prefix=${argument#--prefix=};; esac; done
echo "$@" > flags
{ echo "PREFIX = $prefix"; cat Makefile.in; } > Makefile
"""


def archive(folder, program, version, **files):
    """
    Write a source archive; returns its path and checksum.

    files
        File names to contents, over those that build; None leaves one out. Dots in
        names are written as two underscores.
    """
    says = f'#!/bin/sh\necho "{program} version {version} 2026/11/22"\n'
    makefile = MAKEFILE.format(program=program)
    content = {f"{program}.in": says}
    if program == "keepalived":
        content |= {"configure": CONFIGURE, "Makefile.in": makefile}
    else:
        content["Makefile"] = makefile
    content |= {name.replace("__", "."): text for name, text in files.items()}
    path = folder / f"{program}-{version}.tar.gz"
    # The same files make the same archive, whenever they are packed.
    with (
        gzip.GzipFile(path, "wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, text in content.items():
            if text is not None:
                entry = tarfile.TarInfo(f"{program}-{version}/{name}")
                entry.size, entry.mode = len(text.encode()), 0o755
                tar.addfile(entry, io.BytesIO(text.encode()))
    return str(path), f"sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


def get_file_str(path, saltenv=None):
    """Salt's ``cp.get_file_str`` over the checkout's file root."""
    served = ROOT / "salt" / path.removeprefix("salt://")
    return served.read_text() if served.exists() else ""


def cache_file(path, saltenv=None, source_hash=None, verify_ssl=True, use_etag=False):
    """Salt's ``cp.cache_file`` of a file server that has nothing."""
    return False


def build_module(program, **grains):
    """Load ``haproxy_build`` or ``keepalived_build``."""
    module = load(
        f"_modules/{program}_build.py",
        salt={"cp.get_file_str": get_file_str, "cp.cache_file": cache_file},
        grains={"id": "lb", "os_family": "Debian", "cpuarch": "x86_64", "num_cpus": 1, **grains},
        utils=functions("source_build", load("_utils/source_build.py")),
    )
    module.__salt__ |= functions(f"{program}_build", module)
    return module


def builds_module():
    """Load ``source_builds``."""
    utils = functions("source_build", load("_utils/source_build.py"))
    return load("_modules/source_builds.py", utils=utils)
