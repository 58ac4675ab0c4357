"""
A throw-away PGP key, made and used with the commands of docs/secrets.md.
"""

import shutil
import subprocess

from tests.support import ROOT

PAGE = (ROOT / "docs" / "secrets.md").read_text()
# Where the page has the key.
FOLDER = "/etc/salt/gpgkeys"


class Key:
    """
    A key pair.

    folder
        Path of a folder that is not there yet; what Salt calls ``gpg_keydir``.
    """

    def __init__(self, folder):
        self.folder = folder
        self._messages = {}
        self._run(_commands("    mkdir "))

    def encrypt(self, data):
        """Turn a text into a PGP message, or nested mappings into ones with messages for texts."""
        if isinstance(data, dict):
            return {name: self.encrypt(value) for name, value in data.items()}
        if data not in self._messages:
            random, encrypting = _commands("    openssl ").split("|")
            self._messages[data] = self._run(encrypting, data)
        return self._messages[data]

    def forget(self):
        """End the agent that gpg started, and remove the folder."""
        subprocess.run(["gpgconf", "--homedir", self.folder, "--kill", "all"], check=True)
        shutil.rmtree(self.folder, onerror=_unless_gone)

    def _run(self, commands, text=""):
        """Run commands of the page, with this key's folder."""
        done = subprocess.run(
            ["bash", "-ec", commands.replace(FOLDER, str(self.folder))],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _unless_gone(function, path, info):
    """Raise what kept a file from being removed; the agent that ends removes its sockets itself."""
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


def _commands(start):
    """Find the commands on the page whose first line starts so."""
    [block] = [part for part in PAGE.split("\n\n") if part.startswith(start)]
    return block
