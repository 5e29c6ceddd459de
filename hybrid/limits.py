"""Every bound, timeout and interval of hybrid, each with its unit in the name and its reason beside it.

All of them can be set (`[limits]` in `hybrid.toml`, `HYBRID_LIMITS_<NAME>`); `settings.py` does that. The numbers that
are part of the wire (lengths of names, of cursors) are constants at the end: both sides rely on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds one process works with. Crossing one has a defined outcome, named in each comment."""

    # -- what a client may send
    data_max_bytes: int = 65_536  # one publication's data; more: too_large. Centrifugo's and most brokers' default
    command_max_bytes: int = 69_632  # one command frame: data_max_bytes and its envelope; more: too_large, leg ends
    auth_frame_max_bytes: int = 9_216  # an 8 KB token and its envelope; nothing larger is parsed before authentication
    token_max_bytes: int = 8_192  # more than any proxy lets through in a header
    attach_max_bytes: int = 65_536  # names and positions of 256 channels fit; more: too_large
    body_max_bytes: int = 1_048_576  # one HTTP body (a batch of publishes); more: 413
    commands_per_post_max: int = 64  # one /v1/command or /v1/publish body
    channels_per_session_max: int = 256  # more: limit_exceeded, and a subscribe is refused before an attach would be
    channels_per_request_max: int = 16  # plain streams; their ids name every channel in one 2 KB line
    history_page_max: int = 1_000  # publications one history answer may hold
    fragments_max: int = 64  # of one WebSocket message; more: close 1009
    control_frames_per_s_max: int = 20  # pings of one peer; more: close 1008 (each costs an answer)
    inbox_max: int = 128  # commands read but not yet carried out; more: reading from the peer pauses
    discarded_max_bytes: int = 4_096  # what a client may send on a one-way stream before it is closed

    # -- calls
    calls_max: int = 256  # handlers running at once in the process; more: limit_exceeded
    call_results_max: int = 10_000  # results of keyed calls kept for a repeat; more: limit_exceeded
    call_timeout_s: float = 20.0  # of one handler; below the 25-30 s at which gateways give up a POST

    # -- between nodes
    carried_max: int = 1_000  # commands on their way to the nodes of their sessions, or being carried out for others
    carried_timeout_s: float = 2.0  # for their answer; then outcome_unknown, and the client repeats them by number
    accepts_per_s: float = 500.0  # new streams that this node offers to take from one that drains: a third of a core
    head_check_interval_s: float = 20.0  # each followed channel's head is compared with the broker's this often

    # -- the server API
    broadcast_channels_max: int = 1_000  # of one broadcast; more: too_large
    broadcast_max_bytes: int = 16_777_216  # its data times its channels, which the broker has to keep; more: too_large
    managed_page_max: int = 500  # channels or sessions in one answer; the next page goes on behind it
    managed_timeout_s: float = 2.0  # for the other nodes' answers; those that did not come by then are named

    # -- storms
    admissions_per_s: float = 1_000.0  # sessions' attaches let in: two thirds of a core; more: 503, and when to come
    admissions_burst_s: float = 2.0  # so many seconds' worth at once are no storm
    admissions_ahead_s: float = 30.0  # how far ahead each is told its own moment: twice links_max fit; then at random

    lag_max_s: float = 0.5  # of the event loop, three looks in a row; then new sessions are refused with 503
    lag_resume_s: float = 0.1  # for a second; then they are let in again. Well below: no flapping at the bound

    # -- of one principal, and of one address (an IPv6 /64 is one)
    links_per_principal_max: int = 3_000  # a fifth of links_max: a backend's streams, not everybody's; more: 429
    links_per_address_max: int = 10_000  # two thirds of links_max: one network leaves room for others; more: 429
    connects_per_s: float = 500.0  # streams opened, half of admissions_per_s; more: 429
    connects_burst_s: float = 8.0  # so many seconds' worth at once: a large office, a carrier's gateway comes back
    failed_auths_per_s: float = 10.0  # bad tokens, proofs of an address; more: its unknown ones get 429, unchecked
    failed_auths_burst_s: float = 60.0  # so many seconds' worth at once: a fleet behind one address was revoked
    commands_per_s: float = 1_000.0  # but publishes and heartbeats: a twentieth of a core; more: limit_exceeded
    publishes_per_s: float = 5_000.0  # by all ways, a tenth of a core in batches; more: limit_exceeded
    rates_burst_s: float = 5.0  # so many seconds' worth of commands, and of publishes, at once
    refusals_per_s: float = 100.0  # commands of one WebSocket refused for their rate; more: closed with 4429
    refusals_burst_s: float = 10.0  # so many seconds' worth at once: a flood that goes on, not a loop that learns
    rate_keys_max: int = 50_000  # principals or addresses that owe, for each rate; more: the others share one bucket

    # -- bytes in flight
    buffered_max_bytes: int = 268_435_456  # for clients that do not read; more: who has not for longest is cut
    bodies_max_bytes: int = 67_108_864  # of HTTP bodies that are still coming, 64 of the largest; more: 429
    bodies_per_address_max_bytes: int = 16_777_216  # of one address, a quarter of them; more: 429

    # -- connections
    unauthenticated_per_address_max: int = 64  # opened but not yet authenticated; more: refused with 429
    unauthenticated_max: int = 1_000  # of the whole process; more: refused with 429
    links_max: int = 15_000  # open streams and polls of one process, below its descriptor limit; more: refused with 503
    auth_timeout_s: float = 10.0  # from accept to the first valid `auth`; then 4408
    candidate_timeout_s: float = 10.0  # a candidate leg not confirmed by then ends
    candidates_max: int = 2  # of one session: one better, one worse transport
    session_kept_s: float = 60.0  # a session without a leg; a phone in a tunnel comes back within it
    sessions_max: int = 50_000  # detached ones included; more: the oldest detached session is forgotten
    pushes_kept_max: int = 64  # numbered pushes not acknowledged; past that the next attach starts afresh
    replies_kept_max: int = 64  # answers to numbered commands kept for a repeat
    command_hole_s: float = 2.0  # wait for a missing numbered command, then out_of_order
    close_timeout_s: float = 5.0  # for the peer's half of the close handshake, then abort

    # -- time
    heartbeat_interval_s: float = 20.0  # below the 25-30 s at which careless proxies and carriers cut idle connections
    heartbeat_interval_min_s: float = 5.0  # for a leg that asks: half of the 10 s after which the hastiest proxies cut
    heartbeat_grace_intervals: float = 2.5  # a bidirectional leg silent for this many intervals ends (4409)
    echo_interval_s: float = 0.5  # between two heartbeats that one leg asks for; what asks sooner shares the next one
    stream_age_max_s: float = 600.0  # of a session's event stream; then `rotated`: gateways bound the length of answers
    poll_wait_max_s: float = 25.0  # below the 30 s of the strictest common gateways
    expiring_margin_s: float = 60.0  # warning ahead of a token's end, jittered by up to a third of it
    expiry_grace_s: float = 25.0  # from `exp` to 4401, for one slow refresh; publishing is refused meanwhile
    shutdown_grace_s: float = 10.0  # from SIGTERM to the abort of what is left
    reconnect_delay_max_ms: int = 3_000  # the spread of reconnects told at shutdown

    # -- the hot path
    flush_interval_s: float = 0.002  # what gathers into one write under load; a quiet channel flushes at once
    deflate_min_bytes: int = 512  # a shorter publication is not compressed: it saves a third at most, of one packet
    flush_max_bytes: int = 131_072  # one segment; more is written in the next flush
    fan_out_slice: int = 256  # writes between two looks at other work: about 2 ms
    high_water_bytes: int = 65_536  # in a link's buffer: it leaves LIVE and reads the log later
    low_water_bytes: int = 16_384  # a quarter; then it is caught up
    catch_up_turn_bytes: int = 65_536  # of one channel, then the link's next channel has its turn
    ring_max_bytes: int = 2_097_152  # recent publications of one hot channel
    ring_max_age_s: float = 60.0
    rings_max_bytes: int = 268_435_456  # of the process; wins over the two above, oldest entries first
    channel_linger_s: float = 60.0  # a channel without listeners stays HOT, for the next poll and the next reload
    recovery_page_max_bytes: int = 262_144  # one read of the broker's history
    recoveries_max: int = 64  # such reads in flight in the process

    # -- revocation
    revocations_max: int = 100_000  # kept at once; more: limit_exceeded, and none is given up. 25 MB of each node
    revocation_kept_s: float = 2_592_000.0  # 30 days: a revoked token that lives longer would be accepted again
    revocation_look_s: float = 3.0  # between two looks at the store, should its signal not have come
    recheck_interval_s: float = 60.0  # a live token that its issuer was asked about is asked about again this often

    # -- hooks
    hook_asks_max: int = 128  # decisions asked of the backend at once; more: keys_unavailable. Calls likewise, apart
    hook_asks_per_principal_max: int = 32  # of these, a quarter: made-up names leave room for others; more: the same
    hook_ask_timeout_s: float = 5.0  # for an answer, then none: half of what a client waits for its own
    hook_answer_max_bytes: int = 131_072  # of one answer: a call's largest result and its envelope; more: no answer
    hook_verdicts_max: int = 50_000  # answers remembered; more: the oldest is forgotten, and asked for again. 25 MB
    hook_events_max: int = 10_000  # events that wait to be told; more: dropped, and the next batch says how many
    hook_batch_max: int = 100  # events told in one request
    hook_tell_timeout_s: float = 10.0  # for its answer, then it is told again
    hook_tell_age_max_s: float = 3_600.0  # a batch that nobody took for so long is given up, and counted as dropped

    # -- workers
    worker_start_s: float = 30.0  # from its start until a worker accepts, on a busy machine; then killed, tried again
    worker_silence_s: float = 10.0  # a worker whose event loop shows no turn is killed: half a heartbeat_interval_s

    # -- the memory broker
    channels_max: int = 100_000  # logs kept; more: the one longest unused without listeners is dropped
    idempotency_window_s: float = 300.0  # a key is remembered; told to clients
    idempotency_keys_max: int = 500_000  # remembered at once; more: a publish with a new key is refused, none forgotten
    proofs_max: int = 100_000  # of possession, used within two minutes; more: refused; a tenth for one key
    tickets_max: int = 100_000  # not yet used or still open; more: limit_exceeded
    meta_ttl_s: float = 2_592_000.0  # offset, epoch and head tag outlive the history by 30 days


CHANNEL_NAME_MAX_BYTES: Final = 255
"""UTF-8 bytes of one channel name: fits a Redis key, a path segment and a log line."""
CURSOR_MAX_BYTES: Final = 2_048
"""Of a composite cursor: it travels in `Last-Event-ID` and in queries, where proxies cut at 4 or 8 KB."""
TYPE_MAX_CHARACTERS: Final = 64
"""Of a publication's type."""
TRIED_MAX: Final = 3
"""Transports that an attach tells about: as many as there are."""
KEY_MAX_BYTES: Final = 128
"""Of an idempotency key: holds a UUID with a prefix, twice."""
DATA_DEPTH_MAX: Final = 32
"""Nested arrays and objects in `data`: above any real payload, below every parser's recursion limit."""
NUMBER_MAX_BYTES: Final = 64
"""Of one number in `data`: a longer one is an attack on parsers, not a measurement."""
OFFSET_MAX: Final = 2**53 - 1
"""The largest whole number that a JavaScript client can hold exactly."""
REASON_MAX_BYTES: Final = 123
"""Of a WebSocket close reason: control frames carry at most 125 bytes (RFC 6455, section 5.5)."""
PADDING_BYTES: Final = 2_048
"""Comment in front of every event stream: several browsers and proxies hold back the first kilobytes."""
