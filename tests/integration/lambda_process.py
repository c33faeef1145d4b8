"""What the Lambda tests run against: a stub of the two AWS APIs, and warm processes that see only the built zip."""

import json
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

COMMAND_ID = "5ec0de00-0000-4000-8000-000000000001"
_AUTO_SCALING_PAGE = """<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
<DescribeAutoScalingGroupsResult><AutoScalingGroups>{groups}</AutoScalingGroups>{next}
</DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"""
_AUTO_SCALING_ERROR = """<ErrorResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><Error>
<Type>Sender</Type><Code>{code}</Code><Message>told so</Message></Error></ErrorResponse>"""

# -S keeps the project, which is installed editable, out of sys.path. Like Lambda, one process for many events.
_RUN = """
import importlib, json, sys, types
zip_path, packages = sys.argv[1:3]
sys.path[:] = [zip_path, *sys.path, packages]
handler = importlib.import_module("lambdas.backup").handler
loaded = sorted(name for name in ("boto3", "botocore", "agent.config", "msgspec") if name in sys.modules)
ends = []
for number, event in enumerate(json.load(sys.stdin)):
    try:
        ends.append({"answer": handler(event, types.SimpleNamespace(aws_request_id=f"request-{number}"))})
    except Exception as error:
        ends.append({"raised": type(error).__name__, "text": str(error)})
json.dump({"loaded_at_import": loaded, "agent": sys.modules["agent"].__file__, "ends": ends}, sys.stdout)
"""


@dataclass(frozen=True)
class Call:
    """A call as it came in; `parameters` of SSM are JSON, those of Auto Scaling its query fields."""

    action: str
    parameters: Mapping[str, Any]
    user_agent: str


@dataclass
class Stub:
    """Groups of instances with lifecycle state and ping; None stands for one that SSM does not know.

    `refusals` holds, by action, the (status, code) that its next calls get; `drops` counts calls that lose their
    answer after they were recorded.
    """

    groups: dict[str, dict[str, tuple[str, str | None]]]
    page_size: int = 50
    refusals: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    def actions(self) -> list[str]:
        return [call.action for call in self.calls]

    def sent(self) -> list[Mapping[str, Any]]:
        return [call.parameters for call in self.calls if call.action == "SendCommand"]

    def answer(self, action: str, given: Mapping[str, Any]) -> str:
        if action == "DescribeAutoScalingGroups":
            return self._groups_page(given)
        if action == "DescribeInstanceInformation":
            return json.dumps(self._information_page(given))
        return json.dumps({"Command": {"CommandId": COMMAND_ID, "Status": "Pending"}})

    def _groups_page(self, given: Mapping[str, Any]) -> str:
        wanted = [name for key, name in given.items() if key.startswith("AutoScalingGroupNames.member.")]
        known = [name for name in wanted if name in self.groups]
        start = int(given.get("NextToken", 0))
        rest = known[start + self.page_size :]
        return _AUTO_SCALING_PAGE.format(
            groups="".join(self._group(name) for name in known[start : start + self.page_size]),
            next=f"<NextToken>{start + self.page_size}</NextToken>" if rest else "",
        )

    def _group(self, name: str) -> str:
        instances = "".join(
            f"<member><InstanceId>{instance_id}</InstanceId><LifecycleState>{state}</LifecycleState></member>"
            for instance_id, (state, _) in self.groups[name].items()
        )
        return (
            f"<member><AutoScalingGroupName>{escape(name)}</AutoScalingGroupName>"
            f"<Instances>{instances}</Instances></member>"
        )

    def _information_page(self, given: Mapping[str, Any]) -> dict[str, Any]:
        (wanted,) = given["Filters"]
        assert wanted["Key"] == "InstanceIds"
        assert 1 <= len(wanted["Values"]) <= 100
        pings = {
            instance_id: ping for group in self.groups.values() for instance_id, (_, ping) in group.items() if ping
        }
        known = [instance_id for instance_id in wanted["Values"] if instance_id in pings]
        start = int(given.get("NextToken", 0))
        page: dict[str, Any] = {
            "InstanceInformationList": [
                {"InstanceId": instance_id, "PingStatus": pings[instance_id]}
                for instance_id in known[start : start + self.page_size]
            ]
        }
        return page | ({"NextToken": str(start + self.page_size)} if known[start + self.page_size :] else {})


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    """Serves the stub on loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes, and the second must not wait for an ACK

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            target = self.headers.get("X-Amz-Target", "")
            given = json.loads(body) if target else dict(parse_qsl(body))
            action = target.partition(".")[2] or given["Action"]
            stub.calls.append(Call(action, given, self.headers["User-Agent"]))
            if stub.drops.get(action, 0) > 0:
                stub.drops[action] -= 1
                self.close_connection = True
            elif refusals := stub.refusals.get(action):
                status, code = refusals.pop(0)
                as_json = json.dumps({"__type": code, "message": "told so"})
                self._reply(status, as_json if target else _AUTO_SCALING_ERROR.format(code=code))
            else:
                self._reply(200, stub.answer(action, given))

        def _reply(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Ran:
    """What one process did with its events."""

    ends: Sequence[Mapping[str, Any]]
    loaded_at_import: Sequence[str]
    agent: str
    stderr: str

    @property
    def answers(self) -> list[Mapping[str, str]]:
        return [end["answer"] for end in self.ends]

    def lines(self, number: int | None = None) -> list[dict[str, Any]]:
        """All log lines, or those of the event with that number."""
        lines = [json.loads(line) for line in self.stderr.splitlines()]
        return [line for line in lines if number is None or line["lambda_request_id"] == f"request-{number}"]


def run(zip_path: Path, url: str, *events: object, **environment: str) -> Ran:
    """Feeds the events to the backup handler in one process; `environment` is added to the function's own."""
    completed = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, str(zip_path), sysconfig.get_paths()["purelib"]],
        input=json.dumps(events), capture_output=True, text=True, timeout=60, check=False,
        env={
            "PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_SSM": url, "AWS_ENDPOINT_URL_AUTO_SCALING": url,
            "CLUSTER": "prod", "AUTO_SCALING_GROUPS": "prod-control-plane", "SSM_DOCUMENT": "EtcdAgent-prod",
            "SSM_DOCUMENT_VERSION": "7", "_X_AMZN_TRACE_ID": X_RAY_HEADER, **environment,
        },
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    return Ran(**json.loads(completed.stdout), stderr=completed.stderr)


X_RAY_ROOT = "1-5759e988-bd862e3fe1be46a994272793"
X_RAY_HEADER = f"Root={X_RAY_ROOT};Parent=53995c3f42cd8ad8;Sampled=1"


def schedule_event(number: int = 0, changes: Mapping[str, object] | None = None) -> dict[str, object]:
    """What an EventBridge rule with a schedule sends; a change to None takes the field away."""
    event: dict[str, object] = {
        "version": "0",
        "id": f"7bf73129-1428-4cd3-a780-{number:012x}",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2026-01-31T12:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/etcd-agent-backup"],
        "detail": {},
    }
    return {name: value for name, value in (event | dict(changes or {})).items() if value is not None}
