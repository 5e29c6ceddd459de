"""The options of channels: `[namespaces.<name>]`."""

# ruff: noqa: RUF009 -- `doc` is dataclasses.field with a line of documentation; it makes no shared default

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hybrid.settings.words import check_choice, doc, is_plain_name, refusal

Access: TypeAlias = Literal["scope", "token", "anyone", "hook"]


@dataclass(frozen=True, slots=True)
class Namespace:
    """The options of all channels whose names start with `<name>:`. A table `[namespaces.<name>]` of the file."""

    name: str = doc("What stands before the first `:` of a channel's name; the name of the table.")
    subscribe: Access = doc(
        'Who may read: "scope" (a token whose scope names the channel), "token" (any valid token), "anyone", or "hook" '
        "(the backend is asked; see [hooks]).",
        "scope",
    )
    publish: Access = doc("Who may publish; the same words.", "scope")
    allow_anonymous_publish: bool = doc(
        'Spells out that publish = "anyone" is meant: without it that is refused.', False
    )
    history_size: int = doc("Publications kept for readers that come back; 0 keeps none.", 100)
    history_ttl_s: float = doc("How long a publication is kept, in seconds.", 300.0)
    presence: bool = doc("Whether one can ask who is on a channel.", False)
    join_leave: bool = doc("Whether comings and goings are pushed to subscribers; needs presence.", False)
    on_lag: Literal["reset", "close"] = doc(
        'What a client meets that reads more slowly than history reaches: "reset" or "close".', "reset"
    )
    data_max_bytes: int | None = doc("A smaller bound for one publication's data than the limit of that name.", None)
    publishes_per_s: float | None = doc(
        "Publications of one principal a second in this namespace, counted for itself; not given: with all others, by "
        "the limit of that name.",
        None,
    )
    compression: bool = doc(
        "Whether publications may be compressed. Not where one publication holds a secret beside what others chose: "
        "who sees its length on the wire could guess it.",
        True,
    )
    durable: bool = doc("Whether a publish is answered only after a replica has it, where the broker has one.", False)

    def __post_init__(self) -> None:
        where = f"namespaces.{self.name}"
        check_choice(f"{where}.subscribe", self.subscribe, Access)
        check_choice(f"{where}.publish", self.publish, Access)
        check_choice(f"{where}.on_lag", self.on_lag, Literal["reset", "close"])
        if not self.name or not is_plain_name(self.name):
            raise refusal(f"{where} is not a usable name: 1 to 64 letters, digits, '.', '_' and '-' are accepted.")
        if self.publish == "anyone" and not self.allow_anonymous_publish:
            raise refusal(
                f'{where}.publish = "anyone" lets everybody write; if that is meant, add '
                "allow_anonymous_publish = true to the same table."
            )
        if self.allow_anonymous_publish and self.publish != "anyone":
            raise refusal(
                f'{where}.allow_anonymous_publish = true has no effect unless publish = "anyone"; drop one of them.'
            )
        if self.history_size < 0:
            raise refusal(f"{where}.history_size must be 0 or more, not {self.history_size}.")
        if not 0 < self.history_ttl_s < math.inf:
            raise refusal(f"{where}.history_ttl_s must be a positive number of seconds, not {self.history_ttl_s}.")
        if self.data_max_bytes is not None and self.data_max_bytes <= 0:
            raise refusal(f"{where}.data_max_bytes must be positive, not {self.data_max_bytes}.")
        if self.publishes_per_s is not None and not 0 < self.publishes_per_s < math.inf:
            raise refusal(f"{where}.publishes_per_s must be a positive number, not {self.publishes_per_s}.")
        if self.join_leave and not self.presence:
            raise refusal(f"{where}.join_leave = true needs presence = true in the same table.")
