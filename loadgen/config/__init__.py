"""The configuration: its keys, the command line, and the rules it must keep."""
