"""The configuration groups; a package so that Hydra finds them installed as well as in a checkout."""
