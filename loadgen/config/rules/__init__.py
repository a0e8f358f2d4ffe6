"""What a configuration may ask for, a file a concern: each yields what is wrong, with the key and what to do.

They take the resolved configuration as plain values. `loadgen.config.validate` asks them: words and numbers first, so that the
others may lean on these.
"""
