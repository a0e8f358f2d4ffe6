"""Ray: hosts, actors, and the session that holds them from run to run."""
