"""The keys of the group `page_server`, a part of the schema."""

from __future__ import annotations

from loadgen.config.bounds import DAY_S, MOST_US, MOST_VCPUS, NANOSECONDS_FIT
from loadgen.config.key import CHOSEN, Key, When
from workers.protocol.published import MESSAGES
from workers.registry import strategy_entry
from workers.spec import PAGE_SERVERS

_own = When("page_server=poll, epoll or spin", lambda values: values["page_server"]["name"] == "own")
EXTERNAL = When("page_server=external", lambda values: values["page_server"]["name"] == "external")
_readers = When(
    "a strategy that uses userfaultfd, and page_server=poll, epoll or spin",
    lambda values: bool(strategy_entry(values["strategy"]["name"])["userfaultfd"]) and values["page_server"]["name"] == "own",
)

PAGE_SERVER = (
    Key("page_server.name", "own", "readers of ours, or a fault handler that is not ours", choices=PAGE_SERVERS),
    Key("page_server.wait", CHOSEN, "how readers wait for events", choices=("poll", "epoll", "spin")),
    Key("page_server.readers_per_uffd", 1, "reader threads of each userfaultfd", "threads", 1, 1024, "pids", when=_readers),
    Key(
        "page_server.events_per_read",
        16,
        "most events that one read returns",
        "events",
        1,
        4096,
        "a read's buffer",
        when=_readers,
    ),
    Key("page_server.wake_first", False, "a fault's own page is woken before its block is filled (fault-around)", when=_readers),
    Key("page_server.delay_us", 0.0, "delay added to each fetch", "us", 0, MOST_US, NANOSECONDS_FIT, when=_own),
    Key(
        "page_server.delay_distribution",
        "fixed",
        "the delays: all alike, or with this mean",
        choices=("fixed", "exponential"),
        when=_own,
    ),
    Key(
        "page_server.allow_uids",
        (),
        "users whose VMM processes are served; empty: our own",
        "uids",
        0,
        2**32 - 1,
        "32 bits",
        when=_own,
    ),
    Key(
        "page_server.handshake_timeout_s",
        10.0,
        "longest wait for the VMM processes, or for an external handler to listen",
        "s",
        0,
        DAY_S,
        "a day",
    ),
    Key("page_server.command", "", "starts the handler: 'handler {socket} {snapshot}'", when=EXTERNAL),
    Key("page_server.socket", "", "path at which a handler listens already", when=EXTERNAL),
    Key("page_server.shared", False, "one handler for all guests of a host, not one each", when=EXTERNAL),
    Key(
        "page_server.message",
        "current",
        "key of the page size in the message: page_size, page_size_kib, or both",
        choices=MESSAGES,
        when=EXTERNAL,
    ),
    Key(
        "page_server.vmms",
        1,
        "VMM processes of a guest that the handler serves",
        "VMM processes",
        1,
        MOST_VCPUS,
        "as vcpus",
        when=EXTERNAL,
    ),
    Key(
        "page_server.drop_events_share",
        0.0,
        "fault injection: events read and forgotten",
        "share",
        0,
        1,
        when=_readers,
    ),
    Key(
        "page_server.wake_every_ms",
        0.0,
        "UFFDIO_WAKE of everything; 0: never",
        "ms",
        0,
        MOST_US / 1000,
        NANOSECONDS_FIT,
        when=_own,
    ),
    Key("page_server.contents_bit", True, "readers check that contents are complete; false: fault injection", when=_own),
    Key(
        "page_server.fill_pause_us",
        0.0,
        "fault injection: pause inside a page that is filled",
        "us",
        0,
        MOST_US,
        NANOSECONDS_FIT,
        when=_own,
    ),
    Key(
        "page_server.vanish_after_events",
        0,
        "fault injection: events after which a reader closes its userfaultfds; 0: never",
        "events",
        0,
        1 << 40,
        "64 bits",
        when=_own,
    ),
)
