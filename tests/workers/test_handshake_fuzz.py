"""Whatever bytes a peer sends, in whatever pieces: it is refused with a reason, or what it says lies inside the guest."""

from __future__ import annotations

import json
import os
import socket
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.protocol.handshake import HandshakeError, parse_extras, parse_regions
from workers.protocol.receive import JsonEnd, receive_message

PAGE = 4096
REGION = 64 * PAGE

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
near_regions = st.lists(
    st.fixed_dictionaries(
        {
            key: st.sampled_from([0, 1, PAGE, 2 * PAGE, REGION, 1 << 63, 1 << 64, -1, 1.5, None])
            for key in ("base_host_virt_addr", "size", "offset")
        }
        | {"page_size": st.sampled_from([PAGE, 0, 1 << 21])}
    ),
    max_size=4,
)


@settings(max_examples=2000, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        json_values.map(lambda value: json.dumps(value).encode()),
        near_regions.map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_a_peer_sends_is_either_refused_or_lies_inside_the_guest(sent: bytes) -> None:
    try:
        regions = parse_regions(sent, PAGE, REGION)
    except HandshakeError:
        return
    for region in regions:
        assert region.size > 0
        assert region.offset + region.size <= REGION
        assert region.base_host_virt_addr % PAGE == region.size % PAGE == region.offset % PAGE == 0


pages = st.integers(0, 63)
good_messages = st.builds(
    lambda splits, base, unknown: [
        {"base_host_virt_addr": base + low * PAGE, "size": (high - low) * PAGE, "offset": low * PAGE, "page_size": PAGE} | unknown
        for low, high in zip(splits, [*splits[1:], 64], strict=True)
    ],
    st.lists(pages, min_size=1, max_size=6, unique=True).map(sorted),
    st.integers(1, 1 << 30).map(lambda page: page * PAGE),
    st.dictionaries(st.text(max_size=4).map(lambda text: "x" + text), json_values, max_size=3),
)


@settings(max_examples=1000, deadline=None)
@given(good_messages, st.booleans(), st.data())
def test_every_good_message_is_understood_and_no_part_of_it_is_taken_for_the_whole(
    regions: list[dict[str, int]], ascii_only: bool, pieces: st.DataObject
) -> None:
    sent = json.dumps(regions, ensure_ascii=ascii_only).encode(errors="replace")
    parsed = parse_regions(sent, PAGE, REGION)
    assert len(parsed) == len(regions)
    assert all(one.items() >= region.as_json().items() for region, one in zip(parsed, regions, strict=True))
    assert JsonEnd().feed(sent)
    bytewise = JsonEnd()
    assert not any(bytewise.feed(sent[at : at + 1]) for at in range(len(sent) - 1)) and bytewise.feed(sent[-1:])
    telling = (at + 1 for at, byte in enumerate(sent[:-1]) if byte in b'[]{}"\\,')  # where a value could seem to end
    assert not any(JsonEnd().feed(sent[:end]) for end in (0, *telling, len(sent) - 1))
    cut = pieces.draw(st.lists(st.integers(0, len(sent)), max_size=8).map(sorted))
    end = JsonEnd()
    ended = [end.feed(sent[start:stop]) for start, stop in zip([0, *cut], [*cut, len(sent)], strict=True)]
    assert ended.index(True) == next(at for at, stop in enumerate([*cut, len(sent)]) if stop == len(sent))


@settings(max_examples=1000, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {
                "magic": st.just("uffd-loadgen"),
                "version": st.sampled_from([1, 0, True, "1", None]),
                "vmm": json_values,
                "shard": json_values,
            }
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_a_second_message_is_either_refused_or_names_a_vmm_process_and_a_shard(sent: bytes) -> None:
    try:
        vmm, shard = parse_extras(sent)
    except HandshakeError:
        return
    assert type(vmm) is type(shard) is int
    assert min(vmm, shard) >= 0
    assert type(json.loads(sent)["version"]) is int


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.binary(min_size=1, max_size=40), json_values.map(lambda value: json.dumps(value).encode())), max_size=5)
)
def test_pieces_on_a_real_socket_end_in_a_message_or_a_reason_and_no_descriptor_stays(pieces: list[bytes]) -> None:
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    before = len(os.listdir("/proc/self/fd"))
    with here, there:
        for piece in pieces:
            socket.send_fds(there, [piece], [stop])
        there.shutdown(socket.SHUT_WR)
        try:
            message, descriptors = receive_message(here, stop, time.monotonic() + 60.0, 5, "five descriptors")
        except HandshakeError as error:
            assert "disconnected" in str(error)
        else:
            assert b"".join(pieces).startswith(message)
            assert len(descriptors) >= 1
            for descriptor in descriptors:
                os.close(descriptor)
        assert len(os.listdir("/proc/self/fd")) == before
    os.close(stop)
