"""What RKE2 and k3s share: a service with its configuration, and an etcd whose own configuration it writes."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from agent.config import PlatformName
from agent.platforms import client_certificate, etcd_options, systemd_unit
from agent.platforms.client_certificate import Pair
from agent.platforms.etcd_options import Options
from agent.platforms.finding import (
    ABSENT,
    CA_CERT,
    DATA_DIR,
    ENDPOINTS,
    KUBECONFIG,
    LIKELY,
    SURE,
    Draft,
    Finding,
    Value,
)
from agent.platforms.plain_yaml import NotUnderstood, Scalar, parse
from agent.platforms.reading import Reader, Unreadable
from agent.platforms.systemd_unit import Unit

SHORT_FLAGS = {"-d": "--data-dir", "-c": "--config"}
NEEDED = ("data-dir", "datastore-endpoint", "disable-etcd", "write-kubeconfig")
BY_HAND = "set the keys etcd.* in the configuration"


@dataclass(frozen=True)
class Distribution:
    """One of the two, by its names."""

    platform: PlatformName
    unit: str
    variable_prefix: str
    other_starters: tuple[str, ...]
    tools: str

    @property
    def data_dir(self) -> str:
        return f"/var/lib/rancher/{self.platform}"

    @property
    def config_file(self) -> str:
        return f"/etc/rancher/{self.platform}/config.yaml"

    @property
    def kubeconfig(self) -> str:
        return f"/etc/rancher/{self.platform}/{self.platform}.yaml"


def look(reader: Reader, distribution: Distribution) -> Finding:
    """What the distribution left on this node."""
    draft = Draft(distribution.platform, reader)
    try:
        unit = _unit(draft, distribution)
        settings = _settings(draft, distribution, unit)
        data_dir = settings["data-dir"].text if "data-dir" in settings else distribution.data_dir
        if reason := _without_etcd(draft, settings, data_dir):
            return draft.finish(ABSENT, reason)
        config = f"{data_dir}/server/db/etcd/config"
        starter = _starter(draft, distribution, unit, data_dir)
        _values(draft, config, f"{data_dir}/server")
        _kubeconfig(draft, distribution, settings)
    except NotUnderstood as error:
        draft.trouble(str(error), BY_HAND)
        return draft.finish(LIKELY, str(error), tools=distribution.tools)
    except Unreadable as error:
        draft.unreadable(error)
        return draft.finish(ABSENT, error.reason)
    path = reader.path(config)
    reason = f"{path}, started by {starter}" if starter else f"{path} is there, and no service that starts it"
    return draft.finish(SURE if starter else LIKELY, reason, tools=distribution.tools)


def _unit(draft: Draft, distribution: Distribution) -> Unit | None:
    try:
        return systemd_unit.find(draft.reader, distribution.unit)
    except NotUnderstood as error:
        draft.trouble(f"the unit {distribution.unit} is not understood: {error}", BY_HAND)
        return None


def _settings(draft: Draft, distribution: Distribution, unit: Unit | None) -> dict[str, Value]:
    """The settings that matter here: flags go before the file, the file before variables."""
    variables = unit.variables if unit else {}
    flags = _flags(unit)
    prefix = distribution.variable_prefix
    found = {
        name: variables[variable]
        for name in NEEDED
        if (variable := prefix + name.upper().replace("-", "_")) in variables and variables[variable].text
    }
    config_file = flags.get("config") or variables.get(f"{prefix}CONFIG_FILE")
    return found | _from_files(draft, config_file.text if config_file else distribution.config_file) | flags


def _flags(unit: Unit | None) -> dict[str, Value]:
    words = unit.command[1:] if unit else ()
    return etcd_options.from_words([Value(SHORT_FLAGS.get(word.text, word.text), word.why) for word in words])


def _from_files(draft: Draft, config_file: str) -> dict[str, Value]:
    """config.yaml, then the files of config.yaml.d by their names; of a repeated key the last one counts.

    Raises NotUnderstood for a file that is beyond what is read and names a setting that matters: with a moved data
    folder, what lies in the usual one may be another cluster's.
    """
    reader = draft.reader
    folder = f"{config_file}.d"
    more = [f"{folder}/{name}" for name in reader.names(folder) if name.endswith((".yaml", ".yml"))]
    found: dict[str, Value] = {}
    for name in [config_file, *more]:
        text = reader.text(name) or ""
        try:
            tree = parse(text)
        except NotUnderstood as error:
            if any(key in text for key in NEEDED):
                raise NotUnderstood(f"{reader.path(name)} is not understood: {error}") from None
            continue
        for key, value in tree.items() if isinstance(tree, dict) else ():
            if key in NEEDED and not isinstance(value, Scalar):
                raise NotUnderstood(f"{reader.path(name)} has {key} in a form that is not read")
            if key in NEEDED and isinstance(value, Scalar) and value.text:
                found[key] = Value(value.text, f"{reader.path(name)} line {value.line} {key}")
    return found


def _without_etcd(draft: Draft, settings: Mapping[str, Value], data_dir: str) -> str:
    """Why there is no etcd of this platform here; empty when there is one. Raises Unreadable."""
    reader = draft.reader
    if "datastore-endpoint" in settings:  # its value may hold a password
        return f"it uses an external datastore: {settings['datastore-endpoint'].why}"
    if etcd_options.is_true(settings, "disable-etcd"):
        return f"etcd is switched off: {settings['disable-etcd'].why}"
    database = f"{data_dir}/server/db"
    if reader.content(f"{database}/etcd/config"):
        return ""
    if reader.is_there(f"{database}/state.db"):
        return f"it keeps its data in SQLite, not in etcd: {reader.path(database)}/state.db"
    return f"{reader.path(database)}/etcd/config does not exist or is empty"


def _starter(draft: Draft, distribution: Distribution, unit: Unit | None, data_dir: str) -> str:
    """What starts it at boot, empty when nothing was seen. Raises Unreadable."""
    if unit is not None and not unit.is_masked:
        return unit.path
    others = [name.format(data_dir=data_dir) for name in distribution.other_starters]
    return next((draft.reader.path(name) for name in others if draft.reader.is_there(name)), "")


def _values(draft: Draft, config: str, server: str) -> None:
    path = draft.reader.path(config)
    try:
        options = etcd_options.from_file(parse(draft.reader.text(config) or ""), path)
    except NotUnderstood as error:
        draft.trouble(f"{path} is not understood: {error}", BY_HAND)
        return
    listen, data_dir = options.get("listen-client-urls"), options.get("data-dir")
    endpoint = etcd_options.local_endpoint(listen.text) if listen else ""
    if listen and endpoint:
        draft.values[ENDPOINTS] = Value(endpoint, listen.why)
    else:
        draft.trouble(f"{path} has no usable listen-client-urls", BY_HAND)
    if data_dir and data_dir.text.startswith("/"):
        draft.values[DATA_DIR] = Value(draft.reader.path(data_dir.text), data_dir.why)
    else:
        draft.trouble(f"{path} has no usable data-dir", BY_HAND)
    _tls(draft, options, path, server)


def _tls(draft: Draft, options: Options, path: str, server: str) -> None:
    authority = options.get("trusted-ca-file")
    if authority is None or not authority.text.startswith("/"):
        draft.trouble(f"{path} names no trusted-ca-file", BY_HAND)
        return
    draft.values[CA_CERT] = Value(draft.reader.path(authority.text), authority.why)
    draft.material |= {
        "etcd_ca": authority.text, "cluster_ca": f"{server}/tls/server-ca.crt", "token": f"{server}/token",
        "service_account_key": f"{server}/tls/service.key",
        "encryption_config": f"{server}/cred/encryption-config.json",
    }  # fmt: skip
    own = posixpath.dirname(authority.text)
    pairs = [
        Pair(f"{own}/client.crt", f"{own}/client.key", "the API server's client"),
        Pair(f"{own}/server-client.crt", f"{own}/server-client.key", "etcd's server, usable by a client"),
    ]
    before = len(draft.troubles)
    if not client_certificate.choose(draft, pairs) and len(draft.troubles) == before:
        draft.trouble(
            f"{draft.reader.path(pairs[0].cert)} does not exist, nor another certificate for a client of etcd",
            "the service makes it when it starts: is it up? else set etcd.cert and etcd.key",
        )


def _kubeconfig(draft: Draft, distribution: Distribution, settings: Mapping[str, Value]) -> None:
    given = settings.get("write-kubeconfig")
    name = given.text if given and given.text.startswith("/") else distribution.kubeconfig
    if draft.reader.is_there(name):
        path = draft.reader.path(name)
        draft.values[KUBECONFIG] = Value(path, given.why if given else path)
