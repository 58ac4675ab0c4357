"""Asks minions until all have answered. Run as a program beside the master.

Prints one host a line, as soon as it answers. Arguments: the master's configuration file,
the seconds to keep asking, the hosts.
"""

import sys
import time

import salt.client


def answering(config, seconds, hosts):
    """Ask until nobody is missing or the time is over; yield each host as soon as it answers.

    Parameters:
        config: path of the master's configuration file.
        seconds: how long to keep asking.
        hosts: their names.
    """
    missing = set(hosts)
    deadline = time.monotonic() + seconds
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
                    yield host
                if not missing:
                    break
        except Exception as err:  # noqa: BLE001 - the master may still be starting
            print(err, file=sys.stderr, flush=True)
        time.sleep(0.2)


if __name__ == "__main__":
    for answered in answering(sys.argv[1], float(sys.argv[2]), sys.argv[3:]):
        print(answered, flush=True)
