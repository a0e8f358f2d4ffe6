"""`loadgen-serve`: the page server for VMMs that are not ours."""
