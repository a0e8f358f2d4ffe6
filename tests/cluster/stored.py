"""What a run over several hosts must have stored in the folder it was made in."""

from __future__ import annotations

from pathlib import Path

from results.store.dataset import DataSet


def assert_three_guests_on_three_hosts(folder: Path) -> list[str]:
    """One run of `guests=3 fault_mix=absent source=remote memory.region_mib=4`, a guest a host; the hosts, by guest."""
    dataset = DataSet.existing(str(folder / "outputs/dataset"))
    [run] = dataset.read("runs").to_pylist()
    assert (run["status"], run["guests"], run["cluster"], run["wrong_words"]) == ("ok", 3, "existing", 0)
    assert (run["pages_resolved"], run["fetched_on_demand"]) == (3 * 1024, 3 * 1024)
    hosts: list[str] = run["guest_hosts"].split(",")
    assert len(set(hosts)) == 3
    vcpus = dataset.read("vcpus", ["guest", "host", "pages_resolved"]).to_pylist()
    assert [(one["guest"], one["host"], one["pages_resolved"]) for one in vcpus] == [(n, hosts[n], 1024) for n in range(3)]
    faults = dataset.read("faults", ["guest", "host"]).to_pylist()
    assert {(one["guest"], one["host"]) for one in faults} == set(enumerate(hosts))
    return hosts
