"""Recomputes what a data set says and reports what does not agree."""
