"""The configuration: file, then environment, then flags; every problem is reported at once.

`/etc/etcd-agent/config.toml` (all keys optional), `ETCD_AGENT_<TABLE>__<KEY>` variables, `--set table.key=value`
flags. `load` returns frozen values and, for `config show`, where each one came from.
"""

import os
import socket
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from agent.errors import ConfigError

ROOT_VARIABLE = "ETCD_AGENT_ROOT"
VARIABLE_PREFIX = "ETCD_AGENT_"
NOT_CONFIG_VARIABLES = frozenset({ROOT_VARIABLE, "ETCD_AGENT_CACHE", "ETCD_AGENT_OP_ID"})

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9.-]{0,62}\Z")]
Endpoint = Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://[A-Za-z0-9.\[\]:_-]+\Z")]
AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"\A(/[^\x00-\x1f]*)?\Z")]
Prefix = Annotated[str, msgspec.Meta(pattern=r"\A([A-Za-z0-9][A-Za-z0-9._/-]{0,200})?\Z")]
Bucket = Annotated[str, msgspec.Meta(pattern=r"\A([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?\Z")]
Url = Annotated[str, msgspec.Meta(pattern=r"\A(https?://[^\s]+)?\Z")]
PlainText = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f]{0,256}\Z")]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=31 * 86400)]


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


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where snapshots are kept. A directory on the node's own disk is gone with the node."""

    kind: Literal["directory", "s3"] = "directory"
    path: AbsolutePath = ""
    bucket: Bucket = ""
    prefix: Prefix = "etcd-agent"
    region: PlainText = ""
    endpoint_url: Url = ""
    kms_key_id: PlainText = ""


class SnapshotConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How old the newest verified snapshot may get, and how long one may take."""

    max_age_s: Seconds = 6 * 3600
    timeout_s: Seconds = 1800


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


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    cluster: Name = "default"
    node: NodeConfig = NodeConfig()
    etcd: EtcdConfig = EtcdConfig()
    store: StoreConfig = StoreConfig()
    snapshot: SnapshotConfig = SnapshotConfig()
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
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    @property
    def log_folder(self) -> Path:
        return self.root / "var/log/etcd-agent"

    @property
    def daemon_lock(self) -> Path:
        return self.root / "run/etcd-agent/daemon.lock"


@dataclass(frozen=True)
class Loaded:
    """A configuration with the origin of each key (`default`, `file …`, `variable …`, `flag …`)."""

    config: Config
    origins: Mapping[str, str]


@dataclass(frozen=True)
class _Setting:
    key: str
    value: Any
    origin: str
    from_text: bool


def load(paths: Paths, environment: Mapping[str, str], flags: Sequence[str] = ()) -> Loaded:
    """Reads all sources, later ones win. Raises ConfigError that lists every problem."""
    problems: list[str] = []
    settings = [
        *_from_file(paths.config_file, problems),
        *_from_environment(environment),
        *_from_flags(flags, problems),
    ]
    values = {setting.key: setting for setting in settings}
    config = _build(values, problems)
    problems.extend(_contradictions(config))
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(
            f"the configuration has {len(problems)} problem{'s' * (len(problems) > 1)}:\n{listed}",
            hint="correct them and look at `etcd-agent config show`; docs/operations.md explains each key",
        )
    config = _with_defaults_of_this_node(config, paths)
    origins = {key: values[key].origin if key in values else "default" for key in keys()}
    return Loaded(config, origins)


def keys() -> list[str]:
    """Every dotted key there is."""
    return [key for key, _ in _fields()]


def value_of(config: Config, key: str) -> Any:
    """The value under a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _fields() -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            for inner in msgspec.structs.fields(field.type):
                yield f"{field.name}.{inner.name}", inner.type
        else:
            yield field.name, field.type


def _from_file(path: Path, problems: list[str]) -> Iterator[_Setting]:
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return
    except OSError as error:
        who = " by this user: run it as root, by sudo" if isinstance(error, PermissionError) else ""
        problems.append(f"{path}: cannot be read{who}: {error.strerror}")
        return
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        problems.append(f"{path}: not valid TOML: {error}")
        return
    for name, value in tables.items():
        if isinstance(value, dict):
            if not value and not any(key.startswith(f"{name}.") for key in keys()):
                problems.append(f"{name}: unknown table (file {path})")
            for inner, inner_value in value.items():
                yield _Setting(f"{name}.{inner}", inner_value, f"file {path}", from_text=False)
        else:
            yield _Setting(name, value, f"file {path}", from_text=False)


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Setting]:
    for variable, text in sorted(environment.items()):
        if variable.startswith(VARIABLE_PREFIX) and variable not in NOT_CONFIG_VARIABLES:
            key = variable.removeprefix(VARIABLE_PREFIX).lower().replace("__", ".", 1)
            yield _Setting(key, text, f"variable {variable}", from_text=True)


def _from_flags(flags: Sequence[str], problems: list[str]) -> Iterator[_Setting]:
    for flag in flags:
        key, separator, text = flag.partition("=")
        if separator:
            yield _Setting(key.strip(), text, f"flag --set {key.strip()}", from_text=True)
        else:
            problems.append(f"flag --set {flag!r}: expected KEY=VALUE")


def _build(settings: Mapping[str, _Setting], problems: list[str]) -> Config:
    types = dict(_fields())
    tables: dict[str, Any] = {}
    for key, setting in settings.items():
        if key not in types:
            problems.append(f"{key}: unknown key ({setting.origin})")
            continue
        try:
            value = _convert(setting, types[key])
        except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
            problems.append(f"{key}: {error} ({setting.origin})")
            continue
        table, _, inner = key.rpartition(".")
        (tables.setdefault(table, {}) if table else tables)[inner] = value
    return msgspec.convert(tables, Config)


def _convert(setting: _Setting, expected: Any) -> Any:
    value = setting.value
    if setting.from_text:
        value.encode()  # bytes that are no UTF-8 would come out again in logs and manifests
    if setting.from_text and "tuple" in str(expected):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return msgspec.convert(value, expected, strict=not setting.from_text)


def _contradictions(config: Config) -> Iterator[str]:
    if bool(config.etcd.cert) != bool(config.etcd.key):
        yield "etcd.cert and etcd.key: give both or neither"
    if config.store.kind == "s3" and not config.store.bucket:
        yield "store.bucket: needed with store.kind = 's3'"


def _with_defaults_of_this_node(config: Config, paths: Paths) -> Config:
    """Fills what depends on the machine: host name, and the two paths that follow ETCD_AGENT_ROOT."""
    node = msgspec.structs.replace(config.node, name=config.node.name or socket.gethostname())
    log = msgspec.structs.replace(config.log, path=config.log.path or str(paths.log_folder / "agent.jsonl"))
    store = msgspec.structs.replace(config.store, path=config.store.path or os.fspath(paths.snapshots))
    return msgspec.structs.replace(config, node=node, log=log, store=store)
