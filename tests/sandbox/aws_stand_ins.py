"""SSM and Auto Scaling for a sandbox: one group, the real document, machines that are the sandbox's nodes."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.auto_scaling import AutoScaling, Group
from tests.sandbox.aws_server import AwsServer
from tests.sandbox.s3_server import ACCESS_KEY, REGION, SECRET_KEY
from tests.sandbox.ssm import Ssm
from tests.sandbox.ssm_delivery import Machine

PROJECT = Path(__file__).resolve().parents[2]
GROUP = "sandbox-control-plane"
DOCUMENT = "EtcdAgent-sandbox"
THREE_MACHINES: Mapping[str, Mapping[str, str]] = {f"i-{number:017x}": {} for number in (1, 2, 3)}


@dataclass(frozen=True)
class StandIns:
    """What runs; `log` has the lines of what SSM did."""

    server: AwsServer
    ssm: Ssm
    auto_scaling: AutoScaling
    log: Path

    @property
    def lambda_environment(self) -> dict[str, str]:
        """The variables of the function, and what reaches these stand-ins instead of AWS."""
        return {
            "CLUSTER": "sandbox",
            "AUTO_SCALING_GROUPS": GROUP,
            "SSM_DOCUMENT": DOCUMENT,
            "SSM_DOCUMENT_VERSION": "1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            **self.server.environment,
        }


@contextlib.contextmanager
def running_stand_ins(folder: Path, machines: Mapping[str, Mapping[str, str]] = THREE_MACHINES) -> Iterator[StandIns]:
    """Serves while the block runs; `machines` are the environments of the instances, by instance id."""
    log = folder / "ssm.jsonl"
    document = (PROJECT / "lambdas/document.yaml").read_text()
    ssm = Ssm(
        folder / "ssm", [Machine(name, environment) for name, environment in machines.items()],
        documents={DOCUMENT: document}, log_file=log,
    )  # fmt: skip
    auto_scaling = AutoScaling([Group(GROUP)])
    for name in machines:
        auto_scaling.launch(GROUP, name)
    with AwsServer(ssm=ssm, auto_scaling=auto_scaling) as server:
        yield StandIns(server, ssm, auto_scaling, log)
