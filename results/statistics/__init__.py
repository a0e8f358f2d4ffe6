"""Intervals, comparisons and fits over rows of runs."""
