"""One HTTP server on loopback that answers as SSM and as Auto Scaling, so that SDK clients are used as they are."""

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tests.sandbox import aws_protocol
from tests.sandbox.aws_protocol import AwsError, JsonProtocol, QueryProtocol, Service
from tests.sandbox.free_ports import free_port

ADDRESS = "127.0.0.1"
BODY_LIMIT_BYTES = 1 << 20
IDLE_TIMEOUT_S = 10.0
BIND_ATTEMPTS = 5


@dataclass(frozen=True)
class Call:
    """A call that was received; `error_code` is "" when it was answered with a result."""

    service: str
    operation: str
    arguments: Mapping[str, Any]
    user_agent: str
    body: bytes
    received_at: float
    duration_ms: float
    error_code: str


@dataclass
class _Failure:
    operation: str
    times: int
    error: AwsError


class AwsServer:
    """Serves while its block runs. The services are closed, their scripts killed and all threads gone after it."""

    def __init__(self, *, ssm: Service | None = None, auto_scaling: Service | None = None) -> None:
        self._services = {JsonProtocol.service: ssm, QueryProtocol.service: auto_scaling}
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._failures: list[_Failure] = []
        self._faults: list[BaseException] = []
        self._http: _Server
        self._thread: threading.Thread

    @property
    def endpoint_url(self) -> str:
        return f"http://{ADDRESS}:{self._http.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes any SDK client in a process use this server; credentials and region are the caller's."""
        return {"AWS_ENDPOINT_URL_SSM": self.endpoint_url, "AWS_ENDPOINT_URL_AUTO_SCALING": self.endpoint_url}

    @property
    def calls(self) -> list[Call]:
        """What was received so far, in the order of the answers."""
        with self._lock:
            return list(self._calls)

    def fail_next(
        self, operation: str, times: int = 1, *, code: str = "InternalServerError", status: int = 500,
        message: str = "An error occurred on the server side.",
    ) -> None:  # fmt: skip
        """Answers the next calls of an operation with an error instead of doing them."""
        with self._lock:
            self._failures.append(_Failure(operation, times, AwsError(code, message, status)))

    def throttle_next(self, operation: str, times: int = 1) -> None:
        """The same with the error that its service throttles with."""
        code = aws_protocol.of_operation(operation).throttled
        self.fail_next(operation, times, code=code, status=400, message="Rate exceeded")

    def __enter__(self) -> "AwsServer":
        self._http = _listen(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="aws")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        for service in self._services.values():
            if service is not None:
                service.close()
        if self._faults and error is None:
            raise RuntimeError(f"the stand-in itself failed: {self._faults[0]!r}") from self._faults[0]

    def answer(self, target: str, user_agent: str, body: bytes) -> tuple[int, str, bytes]:
        """Does one call; returns status, content type and content."""
        received_at, started = time.time(), time.monotonic()
        protocol = JsonProtocol() if target else QueryProtocol()
        operation, content = "", b""
        arguments: Mapping[str, Any] = {}
        error: AwsError | None = None
        try:
            operation, arguments = protocol.request(target, body)
            content = protocol.answer(operation, self._result(protocol, operation, arguments))
        except AwsError as refused:
            error = refused
        except Exception as fault:  # noqa: BLE001 - a fault of the stand-in must reach the test, not only a thread
            self.note_fault(fault)
            error = AwsError("InternalFailure", repr(fault), 500)
        call = Call(
            protocol.service, operation, arguments, user_agent, body, received_at,
            (time.monotonic() - started) * 1000, error.code if error else "",
        )  # fmt: skip
        with self._lock:
            self._calls.append(call)
        if error is not None:
            return error.status, protocol.content_type, protocol.error(error)
        return 200, protocol.content_type, content

    def note_fault(self, fault: BaseException) -> None:
        """Keeps what went wrong in here; the end of the block raises it."""
        self._faults.append(fault)

    def _result(
        self, protocol: JsonProtocol | QueryProtocol, operation: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        aws_protocol.check(protocol, operation, arguments)
        with self._lock:
            failure = next((one for one in self._failures if one.operation == operation and one.times > 0), None)
            if failure is not None:
                failure.times -= 1
                raise failure.error
        service = self._services[protocol.service]
        if service is None:
            raise AwsError("ServiceUnavailable", f"this sandbox has no {protocol.service}", 503)
        return service.call(operation, arguments)


class _Server(ThreadingHTTPServer):
    # Threads are joined at the end: each serves one call, and a silent client only for the idle time.
    daemon_threads = False
    request_queue_size = 128
    aws: AwsServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go away in the middle; anything else is a fault of the stand-in."""
        fault = sys.exception()
        if fault is not None and not isinstance(fault, OSError):
            self.aws.note_fault(fault)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = IDLE_TIMEOUT_S

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_LIMIT_BYTES:
            self.send_error(413 if length.isdecimal() else 411)
            return
        status, content_type, content = self.server.aws.answer(
            self.headers.get("X-Amz-Target", ""), self.headers.get("User-Agent", ""), self.rfile.read(int(length))
        )
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: `AwsServer.calls` has it all."""


def _listen(aws: AwsServer) -> _Server:
    for attempt in range(BIND_ATTEMPTS):
        try:
            server = _Server((ADDRESS, free_port(ADDRESS)), _Handler)
        except OSError:
            # Somebody took the port between the probe and here.
            if attempt == BIND_ATTEMPTS - 1:
                raise
        else:
            server.aws = aws
            return server
    raise AssertionError("unreachable")
