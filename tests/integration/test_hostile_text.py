"""Text that a shell would run, wherever text comes in: refused, or passed on as plain text. A canary tells."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from lambdas.build import build
from tests.integration.daemon_node import MEMBER_ID, DaemonNode, node_in
from tests.integration.lambda_process import Stub, run, schedule_event, serving
from tests.integration.ssm_place import FIRST, client_of
from tests.sandbox.aws_server import AwsServer
from tests.sandbox.clock import Clock
from tests.sandbox.ssm import Ssm
from tests.sandbox.ssm_delivery import Machine
from tests.unit import test_document as document

pytestmark = pytest.mark.integration
PLAIN_EVENT_FIELDS = ("version", "account", "region", "resources", "detail", "unknown")
CHECKED_EVENT_FIELDS = ("id", "time", "source", "detail-type")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that appears when any of the texts below is run."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something ran what was given as text"


def hostile(canary: Path) -> list[str]:
    touch = f"touch {canary}"
    return [
        f"$({touch})", f"`{touch}`", f"x; {touch}", f"x\n{touch}\n", f"'; {touch}; '", f'"; {touch}; "',
        f"x | {touch}", f"x && {touch} #", f"}}; {touch}; {{", f"{{{{ opId }}}}; {touch}", f"${{x:-$({touch})}}",
        f"x\r\n{touch}", "A" * 10_240 + f"$({touch})", f"--help; {touch}", f"é$({touch})",
    ]  # fmt: skip


def test_no_document_parameter_takes_it(canary: Path, tmp_path: Path) -> None:
    content = (document.PROJECT / "lambdas/document.yaml").read_text()
    ssm = Ssm(
        tmp_path / "ssm", [Machine(FIRST)], documents={"EtcdAgent": content}, clock=Clock(factor=0),
        log_file=tmp_path / "ssm.jsonl",
    )  # fmt: skip
    with AwsServer(ssm=ssm) as server:
        client = client_of(server)
        for name in document.PARAMETERS:
            for text in [*hostile(canary), f"x\0; touch {canary}"]:
                parameters = {key: [value] for key, value in (document.VALUES | {name: text}).items()}
                with pytest.raises(ClientError, match="InvalidParameters"):
                    client.send_command(DocumentName="EtcdAgent", InstanceIds=[FIRST], Parameters=parameters)
        assert client.list_commands()["Commands"] == []


@pytest.mark.parametrize("name", [name for name in document.PARAMETERS if name != "traceId"])
def test_the_script_passes_it_on_as_one_word_where_the_agent_lets_it_through(
    canary: Path, tmp_path: Path, name: str
) -> None:
    """The patterns are the first line; the script must not depend on them where values come as variables."""
    for text in hostile(canary):
        ran = document.run(tmp_path, "new", {name: text})
        if ran.arguments is not None and "\n" not in text:
            words = 10 + (2 if ran.arguments[1] == "verify" else 0)
            assert len(ran.arguments) == words, ran.arguments
            assert name in ("parentSpanId", "emergency", "snapshotId") or text in ran.arguments


def test_no_event_field_carries_it_to_a_node(canary: Path, tmp_path: Path) -> None:
    build(tmp_path / "lambdas.zip")
    texts = hostile(canary)
    bad = [schedule_event(0, {field: text}) for field in CHECKED_EVENT_FIELDS for text in texts]
    good = [schedule_event(0, {field: text}) for field in PLAIN_EVENT_FIELDS for text in texts]
    with serving(Stub({"prod": {FIRST: ("InService", "Online")}})) as stub:
        ran = run(tmp_path / "lambdas.zip", stub.url, *bad, AUTO_SCALING_GROUPS="prod")
        assert {end.get("raised") for end in ran.ends} == {"BadEvent"}
        assert stub.sent() == []
        ran = run(tmp_path / "lambdas.zip", stub.url, *good, AUTO_SCALING_GROUPS="prod")
        assert all("answer" in end for end in ran.ends)
        sent = {json.dumps(command["Parameters"] | {"parentSpanId": []}, sort_keys=True) for command in stub.sent()}
    (the_same,) = sent  # whatever else was in the event
    given = {name: value[0] for name, value in json.loads(the_same).items() if value}
    for agent in document.AGENTS:
        assert document.run(tmp_path, agent, given).exit_code == 0


@pytest.mark.parametrize("setting", ["CLUSTER", "AUTO_SCALING_GROUPS", "SSM_DOCUMENT", "SSM_DOCUMENT_VERSION"])
def test_no_setting_of_the_function_carries_it_to_a_node(canary: Path, tmp_path: Path, setting: str) -> None:
    build(tmp_path / "lambdas.zip")
    with serving(Stub({"prod": {FIRST: ("InService", "Online")}})) as stub:
        for text in hostile(canary)[:4]:
            ran = run(tmp_path / "lambdas.zip", stub.url, schedule_event(), **{setting: text})
            assert ran.ends[0]["raised"] in ("BadSettings", "NoEligibleNode")
        assert stub.sent() == []


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DaemonNode]:
    (tmp_path / "node").mkdir()
    with node_in(tmp_path / "node") as made:
        yield made


def submit(node: DaemonNode, op_id: str, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        node.argv("submit", "snapshot", "--op-id", op_id, "--json", *words), env=node.environment | environment,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("variable", ["TRACE_ID", "TRACEPARENT"])
def test_a_trace_that_is_none_stops_nothing_and_is_told_short(canary: Path, node: DaemonNode, variable: str) -> None:
    node.start()
    for number, text in enumerate(hostile(canary)[:13:3]):
        ended = submit(node, f"snapshot-{number:08d}", **{variable: text})
        assert ended.returncode == 0, ended.stderr
    rejected = [line["rejected"] for line in node.lines() if line["event"] == "trace.rejected"]
    assert len(rejected) == (5 if variable == "TRACE_ID" else 0)
    assert all(len(text) <= 64 and text.isprintable() for text in rejected)
    assert str(canary) not in (node.etcd / "calls").read_text()


def test_arguments_and_ssms_own_variable_are_bad_input(canary: Path, node: DaemonNode) -> None:
    node.start()
    for text in hostile(canary)[:13:4]:
        for words, environment in (
            (("--param", f"emergency={text}"), {}), (("--param", f"{text}=true"), {}), (("--requested-at", text), {}),
            ((), {"SSM_COMMAND_ID": text}),
        ):  # fmt: skip
            ended = submit(node, "snapshot-hostile", *words, **environment)
            assert ended.returncode == 2, ended.stdout
            assert json.loads(ended.stdout)["error"]["code"] == "bad_input"
            assert "Traceback" not in ended.stderr
        ended = submit(node, text)
        assert ended.returncode == 2, ended.stdout
    assert [name for state in ("incoming", "running", "done") for name in node.spool.names(state)] == []


def test_paths_and_names_of_the_configuration_are_plain_text(canary: Path, node: DaemonNode) -> None:
    odd = f"x $(touch {canary.name}) `touch {canary.name}`;'\" &"
    tools, store = node.etcd.parent / odd, node.etcd.parent / f"store {odd}"
    node.etcd.rename(tools)
    node.etcd = tools
    node.set_config("")
    path = node.root / "etc/etcd-agent/config.toml"
    path.write_text(
        f'cluster = "prod"\n[node]\nname = {json.dumps(odd)}\n[etcd]\ntools_dir = {json.dumps(str(tools))}\n'
        f"[store]\npath = {json.dumps(str(store))}\n"
    )
    node.start()
    ended = submit(node, "snapshot-12345678")
    assert ended.returncode == 0, ended.stderr
    (manifest,) = store.glob("*/manifest/prod/*.json")
    assert json.loads(manifest.read_text())["node"] == odd
    assert not list(node.root.parent.rglob(canary.name))


@pytest.mark.parametrize("key", ["cluster", "store.prefix", "etcd.endpoints"])
def test_names_that_become_keys_or_arguments_are_refused_at_the_start(canary: Path, node: DaemonNode, key: str) -> None:
    for text in hostile(canary):
        ended = node.command("--set", f"{key}={text}", "run")
        assert ended.returncode == 2, ended.stdout
        assert f"{key}:" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_what_etcd_says_of_its_members_is_plain_text(canary: Path, node: DaemonNode) -> None:
    """Names and client URLs of others are written by whoever may add a member."""
    texts = hostile(canary)
    members = [
        {"ID": MEMBER_ID + number, "name": text, "peerURLs": [text], "clientURLs": [text]}
        for number, text in enumerate(texts)
    ]
    (node.etcd / "members.json").write_text(json.dumps({"members": members}))
    node.start()
    ended = submit(node, "snapshot-12345678")
    error = json.loads(ended.stdout)["result"]["error"]
    assert (ended.returncode, error["message"].split()[0]) == (3, "[no-other-voter]"), error
