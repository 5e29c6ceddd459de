"""Calls with typed arguments: a function's signature says what a client may send, and msgspec holds it to that."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from hybrid.embed.hooks import Context, check_waiting
from hybrid.engine.calls import Call
from hybrid.errors import ProtocolError
from hybrid.model import Principal

Procedure: TypeAlias = Callable[..., Awaitable[Any]]


class Signature:
    """What a procedure takes: its parameters, as members of the call's JSON object.

    One annotated as `Principal` gets the caller instead, and one annotated as `Call` the whole call.
    """

    def __init__(self, procedure: Procedure) -> None:
        """Raises TypeError for what cannot be called by name and type."""
        check_waiting(procedure, "rpc")
        hints = typing.get_type_hints(procedure, include_extras=True)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        self._procedure = procedure
        self._callers: dict[str, Callable[[Call], Any]] = {}
        for name, parameter in inspect.signature(procedure).parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"rpc: {parameter} of {procedure.__qualname__} cannot be given by name")
            if name not in hints:
                raise TypeError(f"rpc: {name} of {procedure.__qualname__} needs a type, by which it is checked")
            hint = hints[name]
            if hint is Principal:
                self._callers[name] = _principal_of
            elif hint is Call:
                self._callers[name] = _itself
            elif parameter.default is parameter.empty:
                fields.append((name, hint))
            else:
                fields.append((name, hint, parameter.default))
        self._names = [field[0] for field in fields]
        self._arguments = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)

    async def carry_out(self, call: Call) -> Any:
        """Raises ProtocolError `bad_request`, which says which argument is wrong, and what the procedure raises."""
        try:
            arguments = msgspec.convert({} if call.data is None else call.data, self._arguments)
        except msgspec.ValidationError as error:
            raise ProtocolError("bad_request", f"The arguments of {call.name} do not fit: {error}.") from None
        given = {name: getattr(arguments, name) for name in self._names}
        return await self._procedure(**given, **{name: of(call) for name, of in self._callers.items()})

    def in_context(self, context: Context) -> Callable[[Call], Awaitable[Any]]:
        """The handler for `Calls`, each call inside of its own context."""

        async def handler(call: Call) -> Any:
            async with context():
                return await self.carry_out(call)

        return handler


def _principal_of(call: Call) -> Principal:
    return call.principal


def _itself(call: Call) -> Call:
    return call
