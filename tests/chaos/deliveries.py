"""How a request reaches the node: by `submit`, or by SSM commands that are lost, late, doubled, cancelled, mixed up."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.cases import Case
from tests.chaos.place import Node
from tests.sandbox.clock import Clock
from tests.sandbox.processes import Child
from tests.sandbox.ssm import Ssm
from tests.sandbox.ssm_delivery import Delivery, Machine
from tests.sandbox.ssm_document import AgentKind
from tests.setup.debian import PROJECT

DOCUMENT = "EtcdAgent"
KINDS = {"old": AgentKind.OLD, "new": AgentKind.NEW, "new-replacing": AgentKind.NEW_REPLACING, "": AgentKind.NEW}
ENDED = ("Success", "Failed", "Cancelled", "TimedOut")
TRACE_ID = "65b9e4c0" + "b" * 24
VERY_LATE_S = 1000.0
CUT_AT_CHARACTERS = 100  # SSM's own limit is 24,000, more than an answer has; what is cut is no JSON any more


@dataclass(frozen=True)
class Asked:
    """What a request is: its idempotency key and the time that names what comes out of it."""

    op_id: str
    requested_at: str
    operation: str = "snapshot"


@dataclass
class Answers:
    """What the askers were told: the JSON lines of those who got one, and the exit codes or states of all."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    cancelled: bool = False  # `ops cancel` said so

    def add(self, outcome: str, output: str) -> None:
        """One that was answered, with what stood on its stdout."""
        self.outcomes.append(outcome)
        for line in output.splitlines():
            with contextlib.suppress(ValueError):  # SSM cut it off, or it is no answer
                document = json.loads(line)
                if isinstance(document, dict) and "op_id" in document:
                    self.documents.append(document)


class Post:
    """SSM for the nodes of a case."""

    def __init__(self, case: Case, folder: Path, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._clock = Clock()
        machines = [Machine(node.instance_id, node.environment, KINDS[case.agent]) for node in nodes]
        document = (PROJECT / "lambdas/document.yaml").read_text()
        self.ssm = Ssm(folder / "ssm", machines, documents={DOCUMENT: document}, clock=self._clock, invisible_s=0)

    def send(self, asked: Asked, node: Node, delivery: Delivery | None = None) -> str:
        """Sends one command; its id."""
        self.ssm.machines[node.instance_id].delivery = delivery or Delivery()
        parameters = {
            "traceId": [TRACE_ID], "operation": [asked.operation], "opId": [asked.op_id],
            "requestedAt": [asked.requested_at],
        }  # fmt: skip
        arguments = {"DocumentName": DOCUMENT, "InstanceIds": [node.instance_id], "Parameters": parameters}
        return str(self.ssm.call("SendCommand", arguments)["Command"]["CommandId"])

    def advance(self) -> None:
        """So that what was late arrives now."""
        self._clock.advance(VERY_LATE_S)

    def told(self, command_id: str) -> Mapping[str, Any]:
        """The invocation as SSM tells of it."""
        arguments = {"CommandId": command_id, "Details": True}
        return dict(self.ssm.call("ListCommandInvocations", arguments)["CommandInvocations"][0])

    def cancel(self, command_id: str) -> None:
        """Kills the script's process group, if it runs."""
        self.ssm.call("CancelCommand", {"CommandId": command_id})

    def until_ended(self, command_id: str, answers: Answers) -> None:
        """Waits, looks after the daemons meanwhile, and notes the answer."""
        self.until(lambda: self.told(command_id)["Status"] in ENDED, "an SSM command does not end")
        told = self.told(command_id)
        plugin = told["CommandPlugins"][0]
        answers.add(f"{told['Status']}:{plugin['ResponseCode']}", plugin["Output"])

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits, looks after the daemons of all nodes meanwhile."""

        def looked_after() -> bool:
            for node in self._nodes:
                node.tend()
            return condition()

        self._nodes[0].until(looked_after, what)

    def close(self) -> None:
        self.ssm.close()


def deliver(case: Case, post: Post, nodes: list[Node], asked: Asked, also: Asked, answers: Answers) -> None:
    """Brings the request to the node the way that the case names, and waits for the answers. Raises RuntimeError."""
    node = nodes[0]
    way, _, number = case.way.partition("-") if case.way.startswith("cancelled-") else (case.way, "", "")
    if way in ("submit", "no-wait", "parked"):
        _by_submit(node, asked, answers, wait=way != "no-wait")
    elif way.startswith("cancel") and way != "cancelled":
        _and_cancel(case.way, node, asked, answers)
    elif way == "cancelled":
        command = post.send(asked, node)
        ends_at = time.monotonic() + int(number) / 1000
        post.until(lambda: time.monotonic() >= ends_at, "a moment does not pass")
        post.cancel(command)
        post.until_ended(command, answers)
    elif way == "two-nodes":
        for command in [post.send(asked, one) for one in nodes]:
            post.until_ended(command, answers)
    elif way == "late-elsewhere":
        late = post.send(asked, nodes[1], Delivery(late_s=VERY_LATE_S))
        post.until_ended(post.send(asked, node), answers)
        post.advance()
        post.until_ended(late, answers)
    elif way == "other-cluster":
        post.until_ended(post.send(asked, nodes[1]), Answers())
        post.until_ended(post.send(asked, node), answers)
    elif way == "class-race":
        _class_race(post, nodes, asked, also, answers)
    else:
        _to_one_node(way, post, node, asked, also, answers)


def _to_one_node(way: str, post: Post, node: Node, asked: Asked, also: Asked, answers: Answers) -> None:
    if way == "lost":
        post.send(asked, node, Delivery(never=True))
        post.until_ended(post.send(asked, node), answers)
    elif way == "late":
        late = post.send(asked, node, Delivery(late_s=VERY_LATE_S))
        post.until_ended(post.send(asked, node), answers)
        post.advance()
        post.until_ended(late, answers)
    elif way == "reordered":  # the later event overtakes the earlier one, which then comes while the other is at work
        late = post.send(asked, node, Delivery(late_s=VERY_LATE_S))
        other = post.send(also, node)
        post.until(lambda: bool(node.spool("running") or node.spool("done")), "nothing begins")
        post.advance()
        post.until_ended(late, answers)
        post.until_ended(other, Answers())
    elif way == "other-content":  # the same key with other work in it must change nothing
        post.until_ended(post.send(asked, node), answers)
        if not answers.documents:
            return  # it was killed, so nobody knows whether the op id is taken
        wrong = Answers()
        post.until_ended(post.send(Asked(asked.op_id, asked.requested_at, "verify"), node), wrong)
        if wrong.outcomes not in (["Failed:2"], ["Failed:137"]):  # the latter where it was killed itself
            raise RuntimeError(f"other content under the same op id was answered {wrong.outcomes}")
    else:
        delivery = {
            "once": Delivery(), "twice": Delivery(copies=2), "five": Delivery(copies=5),
            "cut": Delivery(kept_characters=CUT_AT_CHARACTERS),
        }[way]  # fmt: skip
        post.until_ended(post.send(asked, node, delivery), answers)
        if way == "cut" and answers.documents:
            raise RuntimeError(f"an answer was not cut off: {answers.documents}")


def _class_race(post: Post, nodes: list[Node], asked: Asked, also: Asked, answers: Answers) -> None:
    """Node 1 is held when it has chosen where to store; meanwhile node 2 stores another backup, and then this one."""
    held = post.send(asked, nodes[0])
    post.until(lambda: nodes[0].fired() > 0, "the first node does not come to the point where it is held")
    post.until_ended(post.send(also, nodes[1]), Answers())
    post.until_ended(post.send(asked, nodes[1]), answers)
    (nodes[0].plan_folder / "go-0").touch()
    post.until_ended(held, answers)


def _by_submit(node: Node, asked: Asked, answers: Answers, *, wait: bool) -> None:
    words = ["--op-id", asked.op_id, "--requested-at", asked.requested_at]
    child = node.submit(*words, *(["--timeout", "60"] if wait else ["--no-wait"]))
    node.until(lambda: not child.is_running(), "submit does not end")
    answers.add(f"exit {child.process.returncode}", output_of(child))


def _and_cancel(way: str, node: Node, asked: Asked, answers: Answers) -> None:
    """Cancels it: where a worker is held in a step, when it is parked, or after so many ms."""
    started = time.monotonic()
    after_ms = way.removeprefix("cancel-")
    _by_submit(node, asked, answers, wait=False)
    if way == "cancel":
        node.until((node.plan_folder / "fired-0").exists, "the worker does not come to where it is held")
    elif way == "cancel-parked":
        node.until(lambda: bool(node.spool("waiting") or node.spool("done")), "it does not park")
    else:
        node.until(lambda: time.monotonic() >= started + int(after_ms) / 1000, "a moment does not pass")
    child = node.cancel(asked.op_id)
    node.until(lambda: not child.is_running(), "ops cancel does not end")
    (node.plan_folder / "go-0").touch()
    answers.cancelled = child.process.returncode == 0


def output_of(child: Child) -> str:
    """What it printed."""
    return child.log.read_text(errors="replace")
