"""Commands and pushes to and from bytes, as JSON and as MessagePack, and errors as a peer sees them.

Decoding maps whatever a hostile peer can provoke to one ProtocolError with a sentence that helps and quotes nothing of
what was sent. `data` of a publish is only found here, not checked: `protocol.data` does that, once, for all ways of
publishing. In MessagePack it is turned into JSON on the way in, and back on the way out.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from hybrid.errors import HybridError, LimitError, ProtocolError
from hybrid.limits import KEY_MAX_BYTES
from hybrid.protocol.channels import parse_channel, parse_type
from hybrid.protocol.commands import (
    AnyCommand,
    Attach,
    AttachSubscription,
    Call,
    CommandPost,
    Confirm,
    History,
    Poll,
    Presence,
    Publish,
    Subscribe,
    Unsubscribe,
    WirePosition,
)
from hybrid.protocol.cursor import from_wire
from hybrid.protocol.data import from_msgpack, to_msgpack
from hybrid.protocol.publications import wire_publication_msgpack
from hybrid.protocol.pushes import Push, Reply, WireError

_DETAIL_MAX_CHARACTERS: Final = 200


class Codec(Protocol):
    """One way to write commands and pushes. There are two instances: JSON and MSGPACK."""

    @property
    def name(self) -> str:
        """`json` or `msgpack`."""

    @property
    def is_binary(self) -> bool:
        """True when a WebSocket carries it in binary frames."""

    def split(self, frame: bytes, *, max_bytes: int, commands_max: int) -> list[bytes]:
        """The commands of one frame, undecoded. Raises ProtocolError `too_large` past either bound."""

    def decode_command(self, raw: bytes, max_bytes: int) -> AnyCommand:
        """One command, its names and positions checked.

        Raises ProtocolError `too_large`, `method_unknown` or `bad_request`.
        """

    def command_id(self, raw: bytes) -> int:
        """The `id` of a command that `decode_command` refused, so that the error finds its caller; 0 if it has none."""

    def encode_push(self, push: Push) -> bytes:
        """One push."""

    def decode_push(self, raw: bytes) -> Push:
        """One push, for clients. Raises ProtocolError `bad_request`."""


class _Identified(msgspec.Struct, frozen=True, gc=False):
    id: Any = 0


class _Json:
    """See `Codec`. A text frame may hold several commands, one per line."""

    name: Final = "json"
    is_binary: Final = False

    def __init__(self) -> None:
        self._commands = msgspec.json.Decoder(AnyCommand)
        self._pushes = msgspec.json.Decoder(Push)
        self._identified = msgspec.json.Decoder(_Identified)
        self._posts = msgspec.json.Decoder(CommandPost)
        self.encode_push = msgspec.json.Encoder().encode

    def split(self, frame: bytes, *, max_bytes: int, commands_max: int) -> list[bytes]:
        _check_size(frame, max_bytes)
        if b"\n" not in frame:
            return [frame]
        lines = [line for line in frame.split(b"\n") if line and not line.isspace()]
        if len(lines) > commands_max:
            raise ProtocolError("too_large", f"The frame holds more than {commands_max} commands.")
        return lines

    def decode_command(self, raw: bytes, max_bytes: int) -> AnyCommand:
        _check_size(raw, max_bytes)
        try:
            command: AnyCommand = self._commands.decode(raw)
        except DECODING_ERRORS as error:
            raise refusal(error) from None
        _check_names(command)
        return command

    def decode_post(self, raw: bytes, max_bytes: int, commands_max: int) -> CommandPost:
        _check_size(raw, max_bytes)
        try:
            post = self._posts.decode(raw)
        except DECODING_ERRORS as error:
            raise refusal(error) from None
        if len(post.commands) > commands_max:
            raise ProtocolError("too_large", f"The body holds more than {commands_max} commands.")
        return post

    def command_id(self, raw: bytes) -> int:
        try:
            return _number(self._identified.decode(raw).id)
        except DECODING_ERRORS:
            return 0

    def decode_push(self, raw: bytes) -> Push:
        try:
            return self._pushes.decode(raw)
        except DECODING_ERRORS as error:
            raise refusal(error) from None


class _MessagePack:
    """See `Codec`. One command per frame."""

    name: Final = "msgpack"
    is_binary: Final = True

    def __init__(self) -> None:
        self._commands = msgspec.msgpack.Decoder(AnyCommand)
        self._pushes = msgspec.msgpack.Decoder(Push)
        self._identified = msgspec.msgpack.Decoder(_Identified)
        self._encode = msgspec.msgpack.Encoder().encode

    def split(self, frame: bytes, *, max_bytes: int, commands_max: int) -> list[bytes]:
        _check_size(frame, max_bytes)
        return [frame]

    def decode_command(self, raw: bytes, max_bytes: int) -> AnyCommand:
        _check_size(raw, max_bytes)
        try:
            command: AnyCommand = self._commands.decode(raw)
        except DECODING_ERRORS as error:
            raise refusal(error, format_name="MessagePack") from None
        if isinstance(command, Call) and command.data:
            data, _ = from_msgpack(bytes(command.data))
            command = msgspec.structs.replace(command, data=msgspec.Raw(data))
        if isinstance(command, Publish):
            data, is_binary = from_msgpack(bytes(command.data))
            command = msgspec.structs.replace(command, data=msgspec.Raw(data), binary=command.binary or is_binary)
        _check_names(command)
        return command

    def command_id(self, raw: bytes) -> int:
        try:
            return _number(self._identified.decode(raw).id)
        except DECODING_ERRORS:
            return 0

    def encode_push(self, push: Push) -> bytes:
        """See `Codec.encode_push`. Publications and results in it must be `msgspec.Raw` JSON."""
        if push.reply is not None and push.reply.publications:
            publications = [wire_publication_msgpack(publication) for publication in push.reply.publications]
            push = msgspec.structs.replace(push, reply=msgspec.structs.replace(push.reply, publications=publications))
        if push.reply is not None and push.reply.result is not msgspec.UNSET:
            result = msgspec.Raw(to_msgpack(bytes(push.reply.result), False))
            push = msgspec.structs.replace(push, reply=msgspec.structs.replace(push.reply, result=result))
        if push.publication is not None:
            push = msgspec.structs.replace(push, publication=wire_publication_msgpack(push.publication))
        return self._encode(push)

    def decode_push(self, raw: bytes) -> Push:
        try:
            return self._pushes.decode(raw)
        except DECODING_ERRORS as error:
            raise refusal(error, format_name="MessagePack") from None


DECODING_ERRORS: Final = (ValueError, RecursionError)
"""All that msgspec's decoders raise for what a peer can send. Its own errors are ValueErrors, and so is that of broken
UTF-8, which is no MsgspecError; what is nested too deep is neither."""

JSON: Final = _Json()
MSGPACK: Final = _MessagePack()


def decode_command(raw: bytes, max_bytes: int) -> AnyCommand:
    """One JSON command; see `Codec.decode_command`."""
    return JSON.decode_command(raw, max_bytes)


def decode_commands(frame: bytes, *, max_bytes: int, commands_max: int) -> list[AnyCommand]:
    """All commands of a text frame, one per line; blank lines are skipped. One bad command refuses the frame.

    Who wants to answer each on its own uses `Codec.split`.
    """
    lines = JSON.split(frame, max_bytes=max_bytes, commands_max=commands_max)
    return [JSON.decode_command(line, max_bytes) for line in lines]


def decode_post(raw: bytes, *, max_bytes: int, commands_max: int) -> CommandPost:
    """The body of `POST /v1/command`; its commands are still to be decoded, one by one, as each is answered.

    Raises ProtocolError `too_large` past either bound, otherwise `bad_request`.
    """
    return JSON.decode_post(raw, max_bytes, commands_max)


def push_event(push: Push) -> bytes:
    """A push as one event of a session's event stream: `data: {...}`, without `id` and `event`."""
    return b"data: %b\n\n" % JSON.encode_push(push)


def wire_error(error: HybridError) -> WireError:
    """An error as a peer sees it. An empty `detail` is left out: the number says it all."""
    limit = error.limit if isinstance(error, LimitError) else ""
    detail = error.detail[:_DETAIL_MAX_CHARACTERS]
    return WireError(error.row.number, error.row.name, detail, error.retry_after_s, limit)


def error_reply(error: HybridError, *, id: int = 0, n: int = 0) -> Push:
    """The reply that refuses the command with this `id` (and `n`, where it was numbered)."""
    return Push(reply=Reply(id=id, n=n, error=wire_error(error)))


def problem(error: HybridError) -> bytes:
    """The body of an HTTP error: `application/problem+json`.

    Without a `type` it is "about:blank", whose title is the status's own phrase (RFC 9457, section 4.2.1); what went
    wrong is in `detail`, and in `number` and `name` for machines.
    """
    body: dict[str, object] = {
        "title": HTTPStatus(error.row.http_status).phrase,
        "status": error.row.http_status,
        "detail": str(error)[:_DETAIL_MAX_CHARACTERS],
        "number": error.row.number,
        "name": error.row.name,
    }
    if isinstance(error, LimitError):
        body["limit"] = error.limit
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    return msgspec.json.encode(body)


def _check_size(raw: bytes, max_bytes: int) -> None:
    if len(raw) > max_bytes:
        raise ProtocolError("too_large", f"The command is larger than {max_bytes} bytes.")


def _number(id: object) -> int:
    return id if isinstance(id, int) and not isinstance(id, bool) and 0 <= id < 2**53 else 0


def refusal(error: BaseException, subject: str = "command", format_name: str = "JSON") -> ProtocolError:
    """What to tell a peer about an error of msgspec's decoders. `subject` is what could not be read."""
    if isinstance(error, RecursionError):
        return ProtocolError(None, f"The {subject} is nested too deep.")
    if isinstance(error, UnicodeDecodeError):
        return ProtocolError(None, f"The {subject} is not valid UTF-8.")
    if not isinstance(error, msgspec.ValidationError):
        return ProtocolError(None, f"The {subject} is not valid {format_name}.")
    message = str(error)
    if message.startswith("Invalid value"):
        # msgspec quotes the value of a tag, and of nothing else: the method is the only one.
        return ProtocolError("method_unknown")
    return ProtocolError(None, f"{message.removesuffix('.')[: _DETAIL_MAX_CHARACTERS - 1]}.")


def _check_names(command: AnyCommand) -> None:
    match command:
        case Poll():
            for polled in command.positions:
                parse_channel(polled.channel)
                from_wire(polled.position)
            _check_distinct([polled.channel for polled in command.positions])
        case Publish():
            parse_channel(command.channel)
            if command.type is not None:
                parse_type(command.type)
            if command.key is not None and len(command.key.encode()) > KEY_MAX_BYTES:
                raise ProtocolError(None, f"The key is longer than {KEY_MAX_BYTES} bytes.")
        case Subscribe():
            parse_channel(command.channel)
            _check_position(command.position)
        case Unsubscribe() | Presence():
            parse_channel(command.channel)
        case History():
            parse_channel(command.channel)
            _check_position(command.after)
        case Attach() | Confirm():
            if command.subscriptions is not None:
                _check_subscriptions(command.subscriptions)
        case _:
            pass


def _check_subscriptions(subscriptions: list[AttachSubscription]) -> None:
    for subscription in subscriptions:
        parse_channel(subscription.channel)
        _check_position(subscription.position)
    _check_distinct([subscription.channel for subscription in subscriptions])


def _check_position(position: WirePosition | None) -> None:
    if position is not None:
        from_wire(position)


def _check_distinct(channels: list[str]) -> None:
    if len(set(channels)) != len(channels):
        raise ProtocolError(None, "A channel is named twice; it can have one position only.")
