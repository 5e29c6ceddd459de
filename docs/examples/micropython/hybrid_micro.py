"""A client of plain channels in one file, for MicroPython (1.24 or later) and CPython; it needs nothing else.

    from hybrid_micro import Hybrid

    hybrid = Hybrid("http://192.168.1.10:8000", token)
    hybrid.publish("sensors:kitchen", {"celsius": 21.5})
    for event in hybrid.events("sensors:kitchen", history=1):
        print(event.id, event.type, event.data)

`events` never ends by itself: it comes back after every cut and goes on after the event that was given last. Nothing
is lost or repeated for as long as the server keeps the log; otherwise an event of the type `hybrid.reset` says so. What
is larger than `event_max` bytes is not kept in memory: it comes as `hybrid.too_large`, with its id and without data.
"""

import json
import os
import random
import socket
import time

LINE_MAX = 512  # of a header
RETRY_S = 1.0
RETRY_MAX_S = 60.0
LIVED_S = 10  # a stream that lived so long was no failure
SILENCE_S = 65  # three heartbeats of the server
COME_BACK = (408, 429, 500, 502, 503, 504)


class Refused(Exception):
    """The server said no, and would say so again: `status` of HTTP, `number` and `detail` of hybrid's errors."""

    def __init__(self, status, number, detail):
        super().__init__(f"{number or status}: {detail}")
        self.status = status
        self.number = number
        self.detail = detail


class Event:
    """One publication: `id`, by which to go on after it; `type`, "message" where it has none; `data`, a JSON value."""

    def __init__(self, id, type, data):
        self.id = id
        self.type = type
        self.data = data


class Hybrid:
    """`token`: a string, a function that gives one, or None. `ca`: for https, the certificate to trust, in DER.

    `event_max`: bytes of memory for one event. Wi-Fi comes first: this opens sockets and nothing else.
    """

    def __init__(self, url, token=None, ca=None, event_max=4096, silence_s=SILENCE_S):
        scheme, _, rest = url.partition("://")
        if scheme not in ("http", "https"):
            raise ValueError("the URL begins with http:// or https://")
        self._is_secure = scheme == "https"
        self._netloc, _, path = rest.partition("/")
        self._base = "/" + path.strip("/") if path.strip("/") else ""
        host, _, port = self._netloc.partition(":")
        self._host = host
        self._port = int(port) if port else 443 if self._is_secure else 80
        self._token = token
        self._ca = ca
        self._event_max = event_max
        self._silence_s = silence_s

    def events(self, channel, history=0, last_id=None):
        """Every event, as a generator: after `last_id`, or from `history` publications back, or from now on.

        Raises Refused where coming back would not help.
        """
        retry_s, tries, denied = RETRY_S, 0, 0
        while True:
            wait_s, began_s = None, time.time()
            try:
                headers = {"Accept": "text/event-stream"}
                if last_id is not None:
                    headers["Last-Event-ID"] = last_id
                query = f"?history={history}" if history and last_id is None else ""
                answer = self._ask("GET", _path(channel) + query, headers)
                try:
                    if answer.status == 200:
                        denied = 0
                        parser = _Parser(self._event_max, last_id)
                        while parser.read(answer):
                            event = parser.event()
                            last_id, retry_s = parser.id, parser.retry_s or retry_s
                            if event is not None:
                                tries = 0
                                yield event
                    else:
                        denied += answer.status == 401
                        wait_s = answer.come_back_s(may_ask_again=denied < 2)
                finally:
                    answer.close()
            except (OSError, ValueError):
                pass  # the network: a stream that was cut, or mangled
            tries = 1 if time.time() - began_s > LIVED_S else tries + 1
            time.sleep(_spread(retry_s, tries) if wait_s is None else wait_s)

    def poll(self, channel, cursor=None, wait_s=25):
        """One long poll: `{"cursor", "recovered", "publications"}`; at once where there is no cursor yet.

        Raises OSError where the network failed and Refused where the server did; the same again is always safe. The
        answer is held in memory whole.
        """
        query = f"?after={_quote(cursor)}&wait={wait_s}" if cursor else ""
        return self._whole("GET", _path(channel) + query, {}, None)

    def publish(self, channel, data, type=None, key=None, tries=8):
        """Publish a JSON value, or bytes. Returns `{"offset", "epoch", "tag"}` once it is in the log.

        What fails is sent again with the same key, and takes effect once. Raises Refused, or OSError after `tries`.
        """
        is_bytes = isinstance(data, (bytes, bytearray))
        headers = {
            "Content-Type": "application/octet-stream" if is_bytes else "application/json",
            "Idempotency-Key": key or "".join(f"{byte:02x}" for byte in os.urandom(12)),
        }
        if type:
            headers["Hybrid-Type"] = type
        body = bytes(data) if is_bytes else json.dumps(data).encode()
        for attempt in range(1, tries):
            try:
                return self._whole("POST", _path(channel), headers, body)
            except OSError:
                time.sleep(_spread(RETRY_S, attempt))
            except _Later as later:
                time.sleep(_spread(RETRY_S, attempt) if later.wait_s is None else later.wait_s)
        return self._whole("POST", _path(channel), headers, body)

    def _whole(self, method, path, headers, body):
        denied = 0
        while True:
            try:
                answer = self._ask(method, path, headers, body)
                try:
                    if answer.status in (200, 201):
                        return json.loads(answer.rest())
                    denied += answer.status == 401
                    wait_s = answer.come_back_s(may_ask_again=denied < 2)
                finally:
                    answer.close()
            except ValueError as error:
                raise OSError(f"the answer cannot be read: {error}")  # noqa: B904 -- MicroPython has no `from`
            if answer.status != 401:
                raise _Later(f"HTTP {answer.status}", wait_s)

    def _ask(self, method, path, headers, body=None):
        address = socket.getaddrinfo(self._host, self._port, 0, socket.SOCK_STREAM)[0]
        sock = socket.socket(address[0], socket.SOCK_STREAM)
        try:
            sock.settimeout(self._silence_s)
            sock.connect(address[-1])
            stream = self._secured(sock) if self._is_secure else sock
            lines = [f"{method} {self._base}{path} HTTP/1.1", f"Host: {self._netloc}", "Connection: close"]
            token = self._token() if callable(self._token) else self._token
            if token:
                lines.append(f"Authorization: Bearer {token}")
            for name in headers:
                lines.append(f"{name}: {headers[name]}")
            if body is not None:
                lines.append(f"Content-Length: {len(body)}")
            _send(stream, ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b""))
            return _Answer(stream, sock)
        except Exception:
            sock.close()
            raise

    def _secured(self, sock):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._ca is not None:
            context.load_verify_locations(cadata=self._ca)
        elif hasattr(context, "load_default_certs"):
            context.load_default_certs()
        else:
            raise RuntimeError("https needs the certificate to trust: ca=open('ca.der', 'rb').read()")
        context.verify_mode = ssl.CERT_REQUIRED
        return context.wrap_socket(sock, server_hostname=self._host)


class _Later(OSError):
    """The server, or something in front of it, cannot answer now."""

    def __init__(self, text, wait_s):
        super().__init__(text)
        self.wait_s = wait_s


class _Answer:
    """One HTTP/1.1 answer, read in pieces of at most 256 bytes."""

    def __init__(self, stream, sock):
        self._sock = sock
        self._owner = stream
        # Only `readline(n)` and `read(n)` are the same on sockets and TLS streams of both Pythons.
        self._stream = stream.makefile("rb") if hasattr(stream, "makefile") else stream
        words = self._line().split(b" ")
        if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
            raise OSError("the answer is no HTTP/1")
        self.status = int(words[1])
        self._retry_after = None
        self._left = None  # of the body, or of the chunk; None: to the end of the connection
        self._is_chunked = False
        for _ in range(100):
            line = self._line()
            if not line:
                break
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip()
            if name == b"transfer-encoding":
                self._is_chunked = value.lower() == b"chunked"
                self._left = 0
            elif name == b"content-length":
                self._left = int(value)
            elif name == b"retry-after" and value.isdigit():
                self._retry_after = int(value)

    def come_back_s(self, may_ask_again):
        """When to come back, None for when the client likes. Raises Refused where that would not help."""
        number, detail = 0, f"HTTP {self.status}"
        try:
            problem = json.loads(self.rest())
            number, detail = problem.get("number", 0), problem.get("detail", detail)
        except (OSError, ValueError, AttributeError):
            pass  # not the server itself
        if self.status == 401 and may_ask_again:
            return 0  # a token that has just ended: it is asked for again
        if self.status not in COME_BACK:
            raise Refused(self.status, number, detail)
        return self._retry_after

    def piece(self):
        """The next bytes of the body, b"" at its end."""
        if self._left is None:
            return self._stream.readline(256) or b""
        if not self._left:
            if not self._is_chunked:
                return b""
            size = self._line() or self._line()  # behind a chunk there is a line's end
            self._left = int(str(size.split(b";")[0], "ascii"), 16) if size else 0
            if not self._left:
                return b""
        piece = self._stream.read(min(self._left, 256)) or b""
        self._left -= len(piece)
        return piece

    def rest(self, most=65536):
        """The whole body. Raises OSError where it is larger."""
        body = bytearray()
        while True:
            piece = self.piece()
            if not piece:
                return bytes(body)
            body += piece
            if len(body) > most:
                raise OSError(f"it is larger than {most} bytes")

    def close(self):
        """Let go of the connection."""
        for each in (self._stream, self._owner, self._sock):
            try:  # noqa: SIM105 -- MicroPython has no contextlib
                each.close()
            except OSError:
                pass

    def _line(self):
        line = self._stream.readline(LINE_MAX)
        if not line:
            raise OSError("the connection was closed")
        end = line
        while not end.endswith(b"\n"):  # the rest of a long header is of no use here
            end = self._stream.readline(LINE_MAX)
            if not end:
                raise OSError("the connection was closed")
        return line.strip()


class _Parser:
    """Event streams (WHATWG HTML, section 9.2.6) within a bound of memory. `id`: of the last whole event."""

    def __init__(self, event_max, last_id):
        self._event_max = event_max
        self._line = bytearray()
        self._is_long = False  # the line at hand; its end is left out
        self._piece = b""
        self._next_id = self.id = last_id
        self.retry_s = None
        self._begin()

    def _begin(self):
        self._type = "message"
        self._data = None
        self._is_too_large = False

    def read(self, answer):
        """Read to the end of a block. False at the end of the stream, where what is not whole does not count."""
        while True:
            end = self._piece.find(b"\n")
            part = self._piece if end < 0 else self._piece[:end]
            room = self._event_max - len(self._line)
            self._is_long = self._is_long or len(part) > room
            self._line += part[:room]
            if end < 0:
                self._piece = answer.piece()
                if not self._piece:
                    return False
                continue
            self._piece = self._piece[end + 1 :]
            line, is_long = bytes(self._line), self._is_long
            self._line, self._is_long = bytearray(), False
            if line.endswith(b"\r"):
                line = line[:-1]
            if not line and not is_long:
                return True
            self._field(line, is_long)

    def event(self):
        """The event of the block that was read; None for one without data. Raises ValueError."""
        event = None
        if self._is_too_large:
            event = Event(self._next_id, "hybrid.too_large", None)
        elif self._data is not None:
            event = Event(self._next_id, self._type, json.loads(str(bytes(self._data), "utf-8")))
        self.id = self._next_id
        self._begin()
        return event

    def _field(self, line, is_long):
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            if self._data is None:
                self._data = bytearray()
            else:
                self._data += b"\n"
            self._is_too_large = self._is_too_large or is_long or len(self._data) + len(value) > self._event_max
            if not self._is_too_large:
                self._data += value
        elif is_long:
            pass  # padding
        elif name == b"event":
            self._type = str(value, "utf-8")
        elif name == b"id":
            self._next_id = str(value, "utf-8")
        elif name == b"retry" and value.isdigit():
            self.retry_s = int(value) / 1000


def _send(stream, octets):
    """All of it: `send` and `write` may take a part only."""
    write = getattr(stream, "write", None) or stream.send
    sent = 0
    while sent < len(octets):
        sent += write(octets[sent:])


def _spread(base_s, tries):
    """Full jitter: clients that were cut off together do not come back together."""
    return random.random() * min(RETRY_MAX_S, base_s * 2 ** min(tries - 1, 10))


def _path(channel):
    return "/v1/channels/" + _quote(channel)


def _quote(text):
    out = ""
    for byte in text.encode():
        character = chr(byte)
        is_plain = byte < 128 and (character.isalpha() or character.isdigit() or character in "-._~")
        out += character if is_plain else f"%{byte:02X}"
    return out
