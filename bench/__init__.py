"""Measures a deployment against the same steps typed by hand; see ``make bench``."""
