"""The commands of `loadgen-report`, one a file: `add` declares its options and the function that runs it."""
