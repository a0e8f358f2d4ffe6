"""The data set: where it is, how it is written and read."""
