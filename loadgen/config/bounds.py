"""Bounds of keys, and what they protect, as the schema's lines give them."""

from __future__ import annotations

PAGES_FIT = "page numbers have 32 bits"
DAY_S = 86400
MOST_VCPUS = 1 << 16
MOST_REPEATS = 1000
MOST_ROUNDS = (1 << 16) - 1
MOST_RATE = 1e9
MOST_US = 1e9
MOST_MIB_PER_S = 1e6
ONE_A_NS = "one a nanosecond"
NANOSECONDS_FIT = "it is kept in nanoseconds"
