"""Where the values of the configuration come from: file, then variables, then flags; every problem at once.

`/etc/etcd-agent/config.toml` (all keys optional), `ETCD_AGENT_<TABLE>__<KEY>` variables, `--set table.key=value`
flags. `load` returns frozen values and, for `config show`, where each one came from.
"""

import os
import socket
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent.config import ROOT_VARIABLE, Config, Paths, fields, keys
from agent.errors import ConfigError

VARIABLE_PREFIX = "ETCD_AGENT_"
DEFAULT = "default"
NOT_CONFIG_VARIABLES = frozenset({ROOT_VARIABLE, "ETCD_AGENT_CACHE", "ETCD_AGENT_OP_ID"})


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
    origins = {key: values[key].origin if key in values else DEFAULT for key in keys()}
    return Loaded(config, origins)


def with_detected(loaded: Loaded, values: Mapping[str, tuple[str, str]]) -> tuple[Loaded, list[str]]:
    """Puts values in, each as its text with its origin; also returns why some of them can not be used."""
    types, origins, config = dict(fields()), dict(loaded.origins), loaded.config
    refused: list[str] = []
    for key, (text, origin) in values.items():
        try:
            value = _convert(_Setting(key, text, origin, from_text=True), types[key])
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            refused.append(f"{key}: {error} ({origin})")
            continue
        table, _, inner = key.rpartition(".")
        changed = msgspec.structs.replace(getattr(config, table), **{inner: value})
        config = msgspec.structs.replace(config, **{table: changed})
        origins[key] = origin
    return Loaded(config, origins), refused


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
    types = dict(fields())
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
    if config.store.kind == "s3" and not config.store.bucket:
        yield "store.bucket: needed with store.kind = 's3'"


def _with_defaults_of_this_node(config: Config, paths: Paths) -> Config:
    """Fills what depends on the machine: host name, and the two paths that follow ETCD_AGENT_ROOT."""
    node = msgspec.structs.replace(config.node, name=config.node.name or socket.gethostname())
    log = msgspec.structs.replace(config.log, path=config.log.path or str(paths.log_folder / "agent.jsonl"))
    store = msgspec.structs.replace(config.store, path=config.store.path or os.fspath(paths.snapshots))
    return msgspec.structs.replace(config, node=node, log=log, store=store)
