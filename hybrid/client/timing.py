"""How long the client waits, and for what. The rules that use these are in `docs/javascript-client.md`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds."""

    connect_timeout_s: float = 10.0  # from the first byte to the nonce
    head_start_s: float = 0.5  # of a transport before the next worse one starts beside it
    head_start_sound_s: float = 2.5  # of one that worked until now: a gateway may hold all of them for a restart
    last_resort_s: float = 5.0  # before one that this network was seen to spoil: the others may only be late
    patience_s: float = 2.0  # with what was asked for a sign of life; up to twice that on slow lines
    probation_s: float = 2.0  # what a better transport must live before it is used
    settled_after_s: float = 5.0  # a leg that lived this long was no failure: the backoff starts from short again
    backoff_base_s: float = 0.5
    backoff_patient_s: float = 5.0  # the ceiling of the first fifteen tries: most servers are back by then
    backoff_max_s: float = 30.0
    probe_interval_s: float = 30.0  # between two looks for a better transport; doubles with each failure
    probe_interval_max_s: float = 600.0
