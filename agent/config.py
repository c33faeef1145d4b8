"""The configuration: every key with its type, its bounds and its default, and the paths on the node.

Where the values come from is in `settings`: file, variables, flags.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from agent.errors import ConfigError

ROOT_VARIABLE = "ETCD_AGENT_ROOT"

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9.-]{0,62}\Z")]
Endpoint = Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://[A-Za-z0-9.\[\]:_-]+\Z")]
AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"\A(/[^\x00-\x1f]*)?\Z")]
Prefix = Annotated[str, msgspec.Meta(pattern=r"\A([A-Za-z0-9][A-Za-z0-9._/-]{0,200})?\Z")]
Bucket = Annotated[str, msgspec.Meta(pattern=r"\A([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?\Z")]
Url = Annotated[str, msgspec.Meta(pattern=r"\A(https?://[^\s]+)?\Z")]
PlainText = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f]{0,256}\Z")]
IoClass = Literal["idle", "best-effort", "none"]
PlatformName = Literal["kubeadm", "rke2", "k3s", "plain"]
PlatformChoice = Literal["auto", "kubeadm", "rke2", "k3s", "plain"]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=31 * 86400)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]
Kept = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this node is; the instance id is "" off EC2."""

    name: PlainText = ""
    instance_id: Annotated[str, msgspec.Meta(pattern=r"\A(i-[0-9a-f]{8,17})?\Z")] = ""


class EtcdConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the local member is reached. `endpoints` names the local member only, other voters are found through it."""

    endpoints: Annotated[tuple[Endpoint, ...], msgspec.Meta(min_length=1)] = ("http://127.0.0.1:2379",)
    ca_cert: AbsolutePath = ""
    cert: AbsolutePath = ""
    key: AbsolutePath = ""
    data_dir: AbsolutePath = "/var/lib/etcd"
    tools_dir: AbsolutePath = ""
    call_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=120)] = 5


class KubernetesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the cluster that lives in this etcd is reached."""

    kubeconfig: AbsolutePath = ""


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where snapshots are kept. A directory on the node's own disk is gone with the node."""

    kind: Literal["directory", "s3"] = "directory"
    path: AbsolutePath = ""
    bucket: Bucket = ""
    prefix: Prefix = "etcd-agent"
    region: PlainText = ""
    endpoint_url: Url = ""
    kms_key_id: PlainText = ""
    call_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=600)] = 60
    upload_limit_bytes_per_s: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0


class SnapshotConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether nodes take one unasked, which member is read, how old the newest verified one may get, and its cost."""

    schedule: bool = True
    source: Literal["auto", "local"] = "auto"
    max_age_s: Seconds = 6 * 3600
    timeout_s: Seconds = 1800
    etcd_disk_floor_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)] = 1024**3
    zstd_level: Annotated[int, msgspec.Meta(ge=1, le=19)] = 1
    zstd_threads: Annotated[int, msgspec.Meta(ge=1, le=4)] = 1
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 10
    io_class: IoClass = "idle"


class OutboxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verified snapshots that the store did not take: how many stay on the node, and how often they are offered again.

    After each failure the time doubles, to 16 times at most.
    """

    most_count: Kept = 8
    most_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024)] = 20 * 1024**3
    retry_interval_s: Seconds = 60


class VerifyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What verifying may cost: level `content` keeps the writes of a follower waiting while it hashes its data."""

    content_max_db_bytes: Annotated[int, msgspec.Meta(ge=1024 * 1024)] = 1024**3
    content_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=600)] = 60


class RetentionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `snapshot prune` leaves of each class: so many of the newest, and none younger than so many days."""

    hourly_count: Kept = 24
    hourly_least_days: Days = 2
    daily_count: Kept = 7
    daily_least_days: Days = 7
    weekly_count: Kept = 5
    weekly_least_days: Days = 35
    monthly_count: Kept = 12
    monthly_least_days: Days = 365
    emergency_count: Kept = 3
    emergency_least_days: Days = 90


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON log file; rotated by rename and create when it is full."""

    path: AbsolutePath = ""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    max_size_bytes: Annotated[int, msgspec.Meta(ge=65536)] = 50 * 1024 * 1024


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The supervisor: how often it looks without being told, and how long results are kept."""

    scan_interval_s: Annotated[int, msgspec.Meta(ge=1, le=300)] = 30
    stop_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=600)] = 60
    results_kept_days: Annotated[int, msgspec.Meta(ge=1, le=365)] = 15
    parked_interval_s: Annotated[int, msgspec.Meta(ge=1, le=300)] = 30


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    cluster: Name = "default"
    platform: PlatformChoice = "auto"
    node: NodeConfig = NodeConfig()
    etcd: EtcdConfig = EtcdConfig()
    kubernetes: KubernetesConfig = KubernetesConfig()
    store: StoreConfig = StoreConfig()
    snapshot: SnapshotConfig = SnapshotConfig()
    outbox: OutboxConfig = OutboxConfig()
    verify: VerifyConfig = VerifyConfig()
    retention: RetentionConfig = RetentionConfig()
    log: LogConfig = LogConfig()
    daemon: DaemonConfig = DaemonConfig()


@dataclass(frozen=True)
class Paths:
    """Where things lie on the node; `root` is "/" but for sandboxes and tests."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Paths":
        """Reads ETCD_AGENT_ROOT. Raises ConfigError when it is not absolute."""
        root = Path(environment.get(ROOT_VARIABLE) or "/")
        if not root.is_absolute():
            raise ConfigError(f"{ROOT_VARIABLE} is {str(root)!r}, which is not an absolute path")
        return cls(root)

    @property
    def config_file(self) -> Path:
        return self.root / "etc/etcd-agent/config.toml"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/etcd-agent"

    @property
    def spool(self) -> Path:
        return self.state / "spool"

    @property
    def locks(self) -> Path:
        return self.state / "locks"

    @property
    def work(self) -> Path:
        return self.state / "work"

    @property
    def tools(self) -> Path:
        return self.state / "tools"

    @property
    def outbox(self) -> Path:
        return self.state / "outbox"

    @property
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    @property
    def log_folder(self) -> Path:
        return self.root / "var/log/etcd-agent"

    @property
    def daemon_lock(self) -> Path:
        return self.root / "run/etcd-agent/daemon.lock"


def keys() -> list[str]:
    """Every dotted key there is."""
    return [key for key, _ in fields()]


def value_of(config: Config, key: str) -> Any:
    """The value under a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def fields() -> Iterator[tuple[str, Any]]:
    """Every dotted key with its type."""
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            for inner in msgspec.structs.fields(field.type):
                yield f"{field.name}.{inner.name}", inner.type
        else:
            yield field.name, field.type
