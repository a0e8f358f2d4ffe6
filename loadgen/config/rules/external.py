"""What a fault handler that is not ours can serve, and how it is reached; each refusal with what to do."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from typing import Any

from workers.external.handler import environment
from workers.protocol.socket_folder import LONGEST_PATH
from workers.registry import strategy_entries
from workers.spec import FAULT_KINDS

NAME = "page_server=external"
ANOTHER = "or another page_server"


def problems(values: dict[str, Any]) -> Iterator[str]:
    """Nothing unless such a handler is asked for."""
    if values["page_server"]["name"] != "external":
        return
    yield from _reached(values)
    yield from _resolved_from_outside(values)
    yield from _vmm(values)
    yield from _disturbed(values)


def _reached(values: dict[str, Any]) -> Iterator[str]:
    server, source = values["page_server"], values["source"]
    if bool(server["command"]) == bool(server["socket"]):
        yield (
            f"{NAME} needs either page_server.command='handler {{socket}} {{snapshot}}', which starts the handler, or "
            "page_server.socket=PATH, where one listens already: give one of them"
        )
        return
    if server["command"]:
        yield from _command(server["command"], bool(source["file"]), here=values["cluster"]["name"] == "local")
    elif source["name"] != "file" or not source["file"]:
        yield (
            "the handler at page_server.socket has a snapshot of its own, and every word of it is verified: use source=file "
            "source.file=PATH with the same file, and source.contents=file unless it holds contents of seed"
        )
    if len(os.fsencode(server["socket"])) > LONGEST_PATH:
        yield f"page_server.socket is longer than {LONGEST_PATH} bytes, which no Unix socket's path is: use a shorter one"
    if server["socket"] and server["shared"]:
        yield "page_server.shared starts one handler for all guests, and that at page_server.socket runs already: leave it out"
    if source["name"] == "remote":
        yield f"{NAME} serves pages of a snapshot file: use source=local, for which one is written, or source=file"


def _command(command: str, has_file: bool, *, here: bool) -> Iterator[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        yield f"page_server.command={command} is no command line: {str(error).lower()}"
        return
    if here and words and shutil.which(words[0], path=environment()["PATH"]) is None:
        yield (
            f"page_server.command={command}: {words[0]} is not there, or may not be executed: write the handler's path, or put "
            "its folder into PATH"
        )
    if not any("{socket}" in word for word in words):
        yield "page_server.command has no {socket}: put it where the handler takes the path of the socket it is to listen at"
    if not has_file and not any("{snapshot}" in word for word in words):
        yield (
            "page_server.command has no {snapshot}: put it where the handler takes the path of the snapshot, or name the file it "
            "serves by source=file source.file=PATH"
        )


def _resolved_from_outside(values: dict[str, Any]) -> Iterator[str]:
    entry = strategy_entries()[values["strategy"]["name"]]
    if entry["exit"] != "none" or not entry["userfaultfd"] or entry["restore"] != "on_demand":
        yield (
            f"strategy {entry['name']} cannot be resolved from outside: an external handler answers vCPUs that sleep in "
            f"userfaultfd, and nothing else; use strategy=uffd_wait, {ANOTHER}"
        )
    elif values["strategy"]["fault_around_pages"] != 1:
        yield (
            f"{NAME}: the handler decides how many pages it brings with a fault, and strategy.fault_around_pages is our page "
            "server's: leave it at 1"
        )
    others = [kind for kind in FAULT_KINDS if kind != "absent" and values["fault_mix"][kind] > 0]
    if others:
        yield (
            f"{NAME}: the handler is asked for missing pages only, and fault_mix has {', '.join(others)} pages: use "
            f"fault_mix=absent, {ANOTHER}"
        )
    if values["prefetch"]["name"] != "none":
        yield f"prefetch={values['prefetch']['name']} is our page server's, and a handler has its own: use prefetch=none"
    if values["recover"]:
        yield (
            f"recover=true replaces our page server, and a VMM does not hand its userfaultfd to a second handler: leave it out, "
            f"{ANOTHER}"
        )


def _vmm(values: dict[str, Any]) -> Iterator[str]:
    vmms = values["vcpus"] // values["vcpus_per_vmm"]
    most = values["page_server"]["vmms"]
    if vmms > most:
        yield (
            f"the guest has {vmms} VMM processes and the handler serves page_server.vmms={most}: use vcpus_per_vmm="
            f"{values['vcpus']}, or page_server.vmms={vmms} if the handler serves several VMMs of one memory"
        )
    if values["uffds_per_vmm"] != 1:
        yield f"{NAME}: a VMM sends one userfaultfd for all its regions: use uffds_per_vmm=1"
    memory = values["memory"]
    if memory["transparent_huge_pages"]:
        yield f"{NAME}: a VMM that is not ours maps guest memory without transparent huge pages: leave them out"
    pages = (memory["region_mib"] << 20) // memory["page_bytes"]
    if memory["regions"] > pages:
        yield f"memory.regions={memory['regions']} are more than the {pages} pages of the region: use fewer"


def _disturbed(values: dict[str, Any]) -> Iterator[str]:
    balloon, devices, memory = values["disturb"]["balloon"], values["disturb"]["devices"], values["memory"]
    if devices["threads"] > 0 and devices["device_mapping"] == "second":
        yield f"{NAME}: a VMM sends one userfaultfd, so devices have no second mapping: use disturb.devices.device_mapping=same"
    if balloon["rate_per_s"] <= 0:
        return
    method = "remove" if memory["type"] == "shmem" else "dontneed"
    if balloon["method"] != method:
        yield (
            f"{NAME}: what a balloon dropped must read as zeros, and of {memory['type']} memory that is so after "
            f"disturb.balloon.method={method} only"
        )
    if not balloon["track_removes"]:
        yield f"{NAME}: a VMM with a balloon registers UFFD_FEATURE_EVENT_REMOVE: use disturb.balloon.track_removes=true"
    if values["verify"] == "page":
        yield (
            f"{NAME}: a page that the balloon drops while all its words are checked is half zeros: use verify=word, which checks "
            "every page in full at the end"
        )
    if values["vcpus"] != values["vcpus_per_vmm"]:
        yield (
            f"{NAME}: a page that one VMM process's balloon removes is gone for the others, which get no event: use "
            f"vcpus_per_vmm={values['vcpus']}"
        )
