"""The driver: a Hydra configuration becomes a plan, the plan runs on Ray, its records reach the data set.

Ray reads how it authenticates when it is imported, so that is settled here, before any module of the driver imports it: a
token that only this process and its children know, and no file of it in the home directory.
"""

import os
import secrets

if "RAY_AUTH_MODE" not in os.environ:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
