"""
Record what a command printed and how it ended, on a host of a running lab.

    .venv/bin/python tests/data/record.py tests/data/3.10.8/NAME.json HOST COMMAND…

The file holds what Salt's ``cmd.run_all`` returns for it: ``retcode``, ``stdout``
and ``stderr``, and the ``command``. Look through what was recorded before it is
committed: hashes of passwords are replaced here, other secrets are not.
``LAB_NAME`` names the lab, unless it is the default one.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

# What a throw-away user's password hashes to: "throw-away", salted with four zeros.
HASH = base64.b64encode(b"\0\0\0\0" + hashlib.sha256(b"\0\0\0\0throw-away").digest()).decode()
# And what a made-up cookie does.
COOKIE_HASH = base64.b64encode(hashlib.md5(b"THROWAWAYCOOKIE").digest()).decode()


def without_secrets(text):
    """Replace what was made from a password or a cookie."""
    text = re.sub(r'"password_hash":"[^"]+"', f'"password_hash":"{HASH}"', text)
    return re.sub(r"(Erlang cookie hash: )\S+", rf"\g<1>{COOKIE_HASH}", text)


def main(path, host, *command):
    """Run the command on the host and write the file."""
    lab = ["bin/lab", "--name", os.environ.get("LAB_NAME", "default"), "exec", host, "--"]
    ran = subprocess.run([*lab, *command], capture_output=True, text=True, check=False)
    recorded = {
        "command": command,
        "retcode": ran.returncode,
        "stdout": without_secrets(ran.stdout).strip("\n"),
        "stderr": without_secrets(ran.stderr).strip("\n"),
    }
    pathlib.Path(path).write_text(json.dumps(recorded, indent=2, ensure_ascii=False) + "\n")
    print(path, ran.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
