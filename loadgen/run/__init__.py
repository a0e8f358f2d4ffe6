"""One run: prepare, measure, recover, and the columns of its row."""
