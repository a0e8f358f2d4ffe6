"""What a sweep planned, in `_plans/<sweep>.json`: without it `verify` could not find a whole run that is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import pyarrow.fs

from results.store.locations import DataSetError, Location, reported
from results.store.marker import PLANS


def write_plan(location: Location, sweep_id: str, keys: Sequence[str]) -> None:
    """Store the plan key of every run planned; a sweep that is resumed with another plan has both. Raises DataSetError."""
    keys = sorted((Counter(keys) | Counter(read_plan(location, sweep_id) or ())).elements())
    with reported(location.uri, f"store the plan of sweep {sweep_id}"):
        location.filesystem.create_dir(location.join(PLANS), recursive=True)
        with location.filesystem.open_output_stream(location.join(PLANS, f"{sweep_id}.json")) as stream:
            stream.write(json.dumps({"plan_keys": keys}).encode())


def read_plan(location: Location, sweep_id: str) -> list[str] | None:
    """The plan keys; None where no plan was stored. Raises DataSetError."""
    path = location.join(PLANS, f"{sweep_id}.json")
    with reported(location.uri, f"read the plan of sweep {sweep_id}"):
        if location.filesystem.get_file_info(path).type == pyarrow.fs.FileType.NotFound:
            return None
        with location.filesystem.open_input_stream(path) as stream:
            text = stream.read()
    try:
        return [str(key) for key in json.loads(text)["plan_keys"]]
    except (ValueError, KeyError, TypeError):
        raise DataSetError(f"data set {location.uri}: {PLANS}/{sweep_id}.json is not a plan; remove it") from None


def planned_sweeps(location: Location) -> list[str]:
    """Ids of the sweeps whose plan is stored. Raises DataSetError."""
    selector = pyarrow.fs.FileSelector(location.join(PLANS), allow_not_found=True)
    with reported(location.uri, "list its plans"):
        found = location.filesystem.get_file_info(selector)
    return sorted(info.base_name.removesuffix(".json") for info in found if info.base_name.endswith(".json"))
