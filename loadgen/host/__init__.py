"""This machine: what it can do, what a run changes of it and puts back, and what else runs on it."""
