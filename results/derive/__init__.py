"""Columns computed from records and counters. Pure: no file is read."""
