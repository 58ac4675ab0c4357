"""
Measure Rabbit HA on a lab of its own: a deployment, and what a highstate costs.

Each figure of the time is the wall-clock time of one whole command. The ratios
are what to look at: they were measured on one machine in one run.
"""

import argparse
import shutil
import sys

from bench import bed, cost, deployment
from lab import topology


def main():
    """Measure, and print tables with the ratios."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--release", default="bookworm", help="Debian release of the hosts")
    parser.add_argument("--rounds", type=int, default=3, help="how often c and d are timed")
    parser.add_argument(
        "--only",
        choices=("deployment", "cost"),
        help="measure one of both; stock Salt with many objects takes most of the time of `cost`",
    )
    parser.add_argument(
        "--sizes", nargs="+", choices=cost.SIZES, default=list(cost.SIZES), help="for `cost`"
    )
    parser.add_argument(
        "--stock-up-to",
        choices=cost.SIZES,
        default="medium",
        help="the last size that stock Salt is waited for with; `big` takes it most of an hour",
    )
    options = parser.parse_args()
    topology.load(bed.CHECKOUT / "pillar")
    try:
        if options.only == "cost":
            bed.installed_hosts(options.release)
            bed.timed("deployment", bed.orchestration)
        else:
            deployment.print_table(deployment.measure(options.release, options.rounds))
        if options.only != "deployment":
            rows = cost.measure(options.sizes, options.stock_up_to)
            cost.print_table(rows)
            missed = cost.missed(rows)
            if missed:
                sys.exit(f"more VM starts than aimed at: {', '.join(missed)}")
    finally:
        bed.lab("down")


if __name__ == "__main__":
    if shutil.which("systemd-nspawn") is None:
        sys.exit("make bench needs what lab/prepare installs, and root")
    main()
