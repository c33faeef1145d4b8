"""What happens to a command on its way to a machine and there: late, twice or never, run, cancelled, timed out."""

import functools
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from agent import __version__, trace
from tests.sandbox.clock import Clock
from tests.sandbox.ssm_document import AgentKind, Document, Value
from tests.sandbox.ssm_script import STDOUT_LIMIT, End, Outcome, Script

REGION = "us-east-1"
ONLINE, CONNECTION_LOST, INACTIVE = "Online", "ConnectionLost", "Inactive"
# Of the service unit of an agent that systemd started.
AGENT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REBOOT = 194
POLL_S = 0.02
ENDED = {"Success", "Failed", "Cancelled", "TimedOut"}


@dataclass
class Delivery:
    """How a command reaches a machine: `copies` run side by side, after `late_s`, or `never`; what is kept of it."""

    copies: int = 1
    late_s: float = 0.0
    never: bool = False
    kept_characters: int = STDOUT_LIMIT


@dataclass
class Machine:
    """A machine with an SSM agent. `environment` is what makes it that machine: its root folder, a PATH.

    `delivery` is for the commands sent from now on, so that two can overtake each other.
    """

    instance_id: str
    environment: Mapping[str, str] = field(default_factory=dict)
    agent: AgentKind = AgentKind.NEW
    state: str = "running"
    ping_status: str = ONLINE
    delivery: Delivery = field(default_factory=Delivery)
    reboots: list[str] = field(default_factory=list)  # the commands that asked for one

    @property
    def is_reachable(self) -> bool:
        """Whether commands can arrive at all."""
        return self.state == "running" and self.ping_status == ONLINE


@dataclass(frozen=True)
class Command:
    """What was sent."""

    command_id: str
    document: Document
    version_asked: str
    values: Mapping[str, Value]
    given: Mapping[str, list[str]]
    comment: str
    delivery_timeout_s: int
    requested_at: float

    @property
    def execution_timeout_s(self) -> int:
        return self.document.timeout_s(self.values)

    @property
    def expires_at(self) -> float:
        return self.requested_at + self.delivery_timeout_s + self.execution_timeout_s


@dataclass(frozen=True)
class Report:
    """What SSM knows of an invocation. Replaced as a whole, so that readers need no lock."""

    status: str = "Pending"
    details: str = "Pending"
    exit_code: int = -1
    started_at: float | None = None
    ended_at: float | None = None
    stdout: str = ""
    stderr: str = ""


@dataclass
class Invocation:
    """A command on one machine."""

    command: Command
    machine: Machine
    delivery: Delivery
    cancel: threading.Event = field(default_factory=threading.Event)
    report: Report = field(default_factory=Report)

    def has_arrived(self, seconds: float) -> bool:
        """Whether the command, sent so long ago, is at its machine."""
        return self.machine.is_reachable and not self.delivery.never and seconds >= self.delivery.late_s

    def told(self) -> Report:
        """What callers see: Cancelling from the cancel on until the agent has answered."""
        report = self.report
        if self.cancel.is_set() and report.status not in ENDED:
            return replace(report, status="Cancelling", details="Cancelling")
        return report


class Courier:
    """Takes invocations to their machines, each in threads of its own."""

    def __init__(self, folder: Path, clock: Clock, log_file: Path | None) -> None:
        self._folder = folder
        self._clock = clock
        self._log_file = log_file
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._scripts: list[Script] = []

    def send(self, invocation: Invocation) -> None:
        """Returns at once."""
        self._start(invocation.command.command_id, lambda: self._deliver(invocation))

    def close(self) -> None:
        """Kills all scripts with their groups and waits for the threads."""
        self._closing.set()
        while self._threads:
            self._threads.pop().join()
        for script in self._scripts:
            script.close()

    def _deliver(self, invocation: Invocation) -> None:
        command, machine = invocation.command, invocation.machine
        while self._arrives(invocation):
            started_at = self._clock.now()
            invocation.report = Report("InProgress", "InProgress", started_at=started_at)
            outcome = self._run_copies(invocation)
            if self._closing.is_set():
                return
            if outcome.end is not End.EXITED or outcome.exit_code != REBOOT:
                invocation.report = _report(outcome, started_at, self._clock.now())
                return
            # The agent reboots the machine and runs the command again when it is back.
            machine.reboots.append(command.command_id)
            machine.ping_status = CONNECTION_LOST

    def _arrives(self, invocation: Invocation) -> bool:
        """Waits until the machine takes the command; False when that is not to be, with the report of why."""
        command, report = invocation.command, invocation.report
        while not self._closing.is_set():
            now = self._clock.now()
            if invocation.cancel.is_set():
                invocation.report = Report("Cancelled", "Cancelled", ended_at=now)
                return False
            if now >= command.expires_at:
                invocation.report = Report("TimedOut", "DeliveryTimedOut", ended_at=now)
                return False
            # Past the delivery time-out it does not start any more, though its status changes at the total one only.
            in_time = now < command.requested_at + command.delivery_timeout_s or report.started_at is not None
            if in_time and invocation.has_arrived(now - command.requested_at):
                return True
            if report.started_at is None:
                invocation.report = Report("Delayed", "Delayed")
            self._closing.wait(POLL_S)
        return False

    def _run_copies(self, invocation: Invocation) -> Outcome:
        """All copies at once; what is reported is how the first one ended."""
        others = [
            self._start(f"{invocation.command.command_id}-{copy}", functools.partial(self._run, invocation, copy))
            for copy in range(2, invocation.delivery.copies + 1)
        ]
        outcome = self._run(invocation, 1)
        for other in others:
            other.join()
        return outcome

    def _run(self, invocation: Invocation, copy: int) -> Outcome:
        command, machine = invocation.command, invocation.machine
        prepared = command.document.prepare(command.values, machine.agent)
        folder = self._folder / machine.instance_id / f"{command.command_id}-{copy}-{len(machine.reboots)}"
        environment = {
            "PATH": AGENT_PATH,
            **machine.environment,
            "AWS_SSM_INSTANCE_ID": machine.instance_id,
            "AWS_SSM_REGION_NAME": REGION,
            "AWS_SSM_PLATFORM_NAME": "Debian GNU/Linux",
            "AWS_SSM_PLATFORM_VERSION": "12",
            "SSM_COMMAND_ID": command.command_id,
            **prepared.variables,
        }
        cwd = Path(prepared.working_directory) if prepared.working_directory else folder
        script = Script(folder, prepared.script, environment, cwd, stdout_limit=invocation.delivery.kept_characters)
        with self._lock:
            self._scripts.append(script)
        started = time.monotonic()
        self._log(invocation, "ssm.command.started", copy=copy)
        deadline = self._clock.now() + command.execution_timeout_s
        outcome = script.run(lambda: self._must_end(invocation, deadline))
        self._log(
            invocation, "ssm.command.finished", copy=copy, exit_code=outcome.exit_code,
            status=_details(outcome), duration_ms=round((time.monotonic() - started) * 1000),
        )  # fmt: skip
        return outcome

    def _must_end(self, invocation: Invocation, deadline: float) -> End | None:
        if invocation.cancel.is_set() or self._closing.is_set():
            return End.CANCELLED
        return End.TIMED_OUT if self._clock.now() >= deadline else None

    def _start(self, name: str, work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"ssm {name}")
        with self._lock:
            self._threads.append(thread)
        thread.start()
        return thread

    def _log(self, invocation: Invocation, event: str, **more: object) -> None:
        """One line as all parts of the system write it, under the trace of the parameters; SSM knows no spans."""
        if self._log_file is None:
            return
        command, values = invocation.command, invocation.command.values
        inherited = trace.parse_inherited(str(values.get("traceId", "")))
        fields = {
            "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": "INFO",
            "logger": __name__,
            "message": f"{command.document.name} on {invocation.machine.instance_id}",
            "event": event,
            "service": "ssm-stand-in",
            "version": __version__,
            "trace_id": inherited.trace_id if inherited else "",
            "op_id": str(values.get("opId", "")),
            "operation": str(values.get("operation", "")),
            "ssm_command_id": command.command_id,
            "instance_id": invocation.machine.instance_id,
        }
        line = {name: value for name, value in fields.items() if value} | more
        with self._log_file.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


def _details(outcome: Outcome) -> str:
    if outcome.end is End.CANCELLED:
        return "Cancelled"
    if outcome.end is End.TIMED_OUT:
        return "ExecutionTimedOut"
    return {0: "Success", REBOOT: "InProgress"}.get(outcome.exit_code, "Failed")


def _report(outcome: Outcome, started_at: float, ended_at: float) -> Report:
    details = _details(outcome)
    status = "TimedOut" if details == "ExecutionTimedOut" else details
    return Report(status, details, outcome.exit_code, started_at, ended_at, outcome.stdout, outcome.stderr)
