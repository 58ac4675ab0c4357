"""Asks minions until all have answered. Run as a program beside the master.

Prints one host a line, as soon as it answers. Arguments: the master's configuration file,
the seconds to keep asking, the hosts.
"""

import sys
import time

import salt.client


def main(config, seconds, *hosts):
    """Ask until nobody is missing or the time is over; see the module's description."""
    missing = set(hosts)
    deadline = time.monotonic() + float(seconds)
    while missing and time.monotonic() < deadline:
        try:
            # A new client each time: it reads the master's key, which may not be there at first.
            client = salt.client.LocalClient(config)
            answers = client.cmd_iter_no_block(
                sorted(missing), "test.ping", tgt_type="list", timeout=1, gather_job_timeout=1
            )
            for answer in answers:
                for host in set(answer or ()) & missing:
                    missing.discard(host)
                    print(host, flush=True)
                if not missing:
                    break
        except Exception as err:  # noqa: BLE001 - the master may still be starting
            print(err, file=sys.stderr, flush=True)
        time.sleep(0.2)
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
