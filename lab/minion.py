"""A minion's settings and keys, made by the lab so that minions connect at once."""

import os

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# Salt reads its private key anew for each request, and OpenSSL checks it each time: with 2048
# bits, which is Salt's default, that is 50 ms of CPU, with 1024 it is 7. A highstate has 36.
_KEY_SIZE = int(os.environ.get("RABBIT_HA_LAB_KEY_SIZE", "1024"))


def config(name, master_address):
    """Return a minion's configuration as YAML.

    Parameters:
        name: the minion id.
        master_address: where the master is.
    """
    settings = {
        "master": master_address,
        "id": name,
        # Of the key that a host makes itself when it was installed anew.
        "keysize": _KEY_SIZE,
        "log_level": "warning",
        # Back within seconds after a reboot, a cut or a new master.
        "master_tries": -1,
        "auth_timeout": 5,
        "auth_tries": 100,
        "acceptance_wait_time": 2,
        # One that was installed anew before its old key was deleted would end, in 10 to 20 s.
        "rejected_retry": True,
        "random_reauth_delay": 1,
        "recon_default": 200,
        "recon_max": 2000,
        "recon_randomize": False,
        "tcp_keepalive": True,
        "tcp_keepalive_idle": 3,
        "tcp_keepalive_cnt": 3,
        "tcp_keepalive_intvl": 2,
        # No resolver and no graphics card here: do not wait for either.
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
    }
    return yaml.safe_dump(settings, sort_keys=False)


def key_pair():
    """Return a new RSA key as (private PEM, public PEM), both str."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_SIZE)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def write_pair(folder, stem):
    """Write a key pair as Salt names it, unless it is there already.

    Parameters:
        folder: Path, created when missing.
        stem: "minion" or "master".

    Returns:
        The public key as str.
    """
    private, public = folder / f"{stem}.pem", folder / f"{stem}.pub"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The public half is written last: where it is, the private half is complete.
    if not public.exists():
        secret, shared = key_pair()
        private.touch(mode=0o600)
        private.chmod(0o600)
        private.write_text(secret)
        partial = public.with_suffix(".new")
        partial.write_text(shared)
        partial.rename(public)
    return public.read_text()
