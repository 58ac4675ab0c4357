"""The lab: real Debian hosts, with systemd and Salt minions, on one Linux machine."""
