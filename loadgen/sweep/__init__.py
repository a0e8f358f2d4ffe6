"""Many runs: composing, ordering, resuming and storing them."""
