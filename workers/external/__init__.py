"""Fault handlers that are not ours: their process, and the VMM's side of the connection to one."""
