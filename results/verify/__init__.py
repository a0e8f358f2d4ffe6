"""Recomputes what a data set has and reports what does not agree."""
