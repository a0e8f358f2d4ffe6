"""Ray's dashboard agent with no module of the dashboard: `python -m loadgen.cluster.ray_agent FILE ARGUMENT...`, FILE being Ray's
own agent. A node ends when its agent is gone, so it has one; its modules look at every process of the host again and again, for a
dashboard that is not there.
"""

from __future__ import annotations

import runpy
import sys

import ray.dashboard.modules


def main() -> None:
    """Run FILE as the agent, in this process."""
    ray.dashboard.modules.__path__ = []  # no module is found in it
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
