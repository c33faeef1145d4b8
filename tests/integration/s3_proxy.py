"""An HTTP proxy in front of an S3 server with faults as data: which call, what happens to it, how many times."""

import contextlib
import http.client
import socket
import ssl
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

from tests.sandbox.certificates import Certificate

EVER = 1_000_000
STALL_S = 60.0
HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "transfer-encoding", "content-length"})


@dataclass
class Fault:
    """What happens to the next `times` calls of a kind, of which the first `after` pass.

    One of: `reply` (status, S3 code) without asking the server, `alters` the request's body on its way, `loses` the
    answer (the server did it), `resets` in the middle of the body (the server did not), `stalls` without an answer.
    `meanwhile` is called when it has come to that, before the client notices; with nothing else, after the server did
    it where `is_late`, and else before.
    """

    call: str
    reply: tuple[int, str] | None = None
    alters: Callable[[bytes], bytes] | None = None
    loses: bool = False
    resets: bool = False
    stalls: bool = False
    meanwhile: Callable[[], None] | None = None
    is_late: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = EVER
    after: int = 0


@dataclass(frozen=True)
class Request:
    """A call as it came in; `call` is its kind in a word."""

    call: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What comes back; one with `told_bytes` says that it has so many, and breaks off after fewer."""

    status: int
    headers: Mapping[str, str]
    content: bytes = b""
    told_bytes: int | None = None


Forward: TypeAlias = Callable[[Request], Answer]


class Proxy:
    """Runs in threads of this process; `faults` and `calls` may be looked at and changed at any time."""

    def __init__(self, upstream: str, certificate: Certificate | None = None) -> None:
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.faults: list[Fault] = []
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda call: None
        self.between: Callable[[Request, Forward], Answer] = lambda request, forward: forward(request)
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, call: str) -> Fault | None:
        """Notes the call; the fault that it meets, if any."""
        self.before(call)
        with self._lock:
            self.calls.append(call)
            for fault in self.faults:
                if fault.call not in (call, "any"):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def forward(self, request: Request) -> Answer:
        """Asks the server."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        with contextlib.closing(connection):
            length = {"Content-Length": str(len(request.body))}
            connection.request(request.method, request.target, request.body, headers | length)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())


def kind_of(method: str, target: str) -> str:
    """Which of S3's calls a request is, in a word."""
    path, _, query_text = target.partition("?")
    query = dict(urllib.parse.parse_qsl(query_text, keep_blank_values=True))
    if method == "POST":
        return "create" if "uploads" in query else "complete"
    if method == "PUT":
        return "part" if "partNumber" in query else "manifest" if "/manifest/" in path else "put"
    if method == "GET":
        return "list" if "list-type" in query else "list-uploads" if "uploads" in query else "get"
    return {"DELETE": "abort", "HEAD": "head"}[method]


def _handler_of(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def _serve(self) -> None:
            with contextlib.suppress(OSError):  # the client went away: that is what some of the faults are for
                self._meet(proxy.take(kind_of(self.command, self.path)))

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - names of the base class

        def _meet(self, fault: Fault | None) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if fault and fault.resets:
                self.rfile.read(length // 2)
                _call(fault.meanwhile)
                self._reset()
                return
            body = self.rfile.read(length)
            if fault and not (fault.loses or fault.is_late):
                _call(fault.meanwhile)
            if fault and fault.stalls:
                proxy.ending.wait(STALL_S)
                self._reset()
                return
            if fault and fault.reply:
                status, code = fault.reply
                self._answer(status, {"Content-Type": "application/xml", **fault.headers}, _error(code))
                return
            if fault and fault.alters:
                body = fault.alters(body)
            call = kind_of(self.command, self.path)
            answer = proxy.between(Request(call, self.command, self.path, dict(self.headers), body), proxy.forward)
            if fault and (fault.loses or fault.is_late):
                _call(fault.meanwhile)
            if fault and fault.loses:
                self._reset()
                return
            self._answer(answer.status, answer.headers, answer.content, answer.told_bytes)

        def _answer(
            self, status: int, headers: Mapping[str, str], content: bytes, told_bytes: int | None = None
        ) -> None:
            self.send_response(status)
            told = {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
            length = str(len(content) if told_bytes is None else told_bytes)
            self.close_connection = self.close_connection or told_bytes is not None
            if self.command == "HEAD":
                length = next((value for name, value in headers.items() if name.lower() == "content-length"), "0")
            for name, value in {**told, "Content-Length": length}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _reset(self) -> None:
            """RST, not FIN: what a client sees when something in between drops the connection."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    return Handler


def _call(action: Callable[[], None] | None) -> None:
    if action is not None:
        action()


def _error(code: str) -> bytes:
    if not code:
        return b""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>told to by the test</Message>'
        "<RequestId>1</RequestId></Error>"
    ).encode()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        taken: list[socket.socket] = []
        listener.settimeout(0.1)
        ending = threading.Event()

        def take() -> None:
            while not ending.is_set():
                with contextlib.suppress(TimeoutError, OSError):
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ending.set()
            thread.join()
            for connection in taken:
                connection.close()
