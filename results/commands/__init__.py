"""The commands of `loadgen-report`, one a file: `add` says what it takes, and what runs it."""
