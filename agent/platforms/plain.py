"""Plain etcd: a service of its own, configured by flags, variables or a file, as packages or people set it up."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from agent.platforms import client_certificate, etcd_options, systemd_unit
from agent.platforms.client_certificate import Pair
from agent.platforms.etcd_options import Options
from agent.platforms.finding import (
    ABSENT,
    CA_CERT,
    DATA_DIR,
    ENDPOINTS,
    LIKELY,
    SURE,
    Certainty,
    Draft,
    Finding,
    Value,
)
from agent.platforms.plain_yaml import NotUnderstood, Opaque, Tree, parse
from agent.platforms.reading import Reader, Unreadable
from agent.platforms.systemd_unit import Unit

UNIT = "etcd.service"
YAML_FILES = ("/etc/etcd/etcd.conf.yml", "/etc/etcd/etcd.conf.yaml")
VARIABLE_FILES = ("/etc/etcd/etcd.conf", "/etc/default/etcd")
DEFAULT_LISTEN = Value("http://localhost:2379", "etcd's own default, since nothing sets listen-client-urls")
USED = ("listen-client-urls", "data-dir", "client-transport-security", "name")
BY_HAND = "set the keys etcd.* in the configuration"
TOOLS = "on PATH, or in etcd.tools_dir"


@dataclass(frozen=True)
class _Source:
    """etcd's options and what they were read from; None where they could not be understood."""

    options: Options | None
    path: str
    working_folder: str = "/"
    unit: Unit | None = None


def look(reader: Reader) -> Finding:
    """What there is of an etcd that no platform runs."""
    draft = Draft("plain", reader)
    try:
        source = _source(draft)
        if isinstance(source, str):
            return draft.finish(ABSENT, source)
        data_dir = _data_dir(draft, source)
        certainty, reason = _certainty(reader, source, data_dir)
        if certainty != ABSENT:
            _endpoint(draft, source)
        return draft.finish(certainty, reason, tools=TOOLS)
    except Unreadable as error:
        draft.unreadable(error)
        return draft.finish(ABSENT, error.reason)


def _source(draft: Draft) -> "_Source | str":
    """Where etcd's options are, or why there is no plain etcd. Raises Unreadable."""
    reader = draft.reader
    try:
        unit = systemd_unit.find(reader, UNIT)
        if unit is None:
            return _without_unit(draft)
        if unit.is_masked:
            return f"{unit.path} is masked"
        if unit.program != "etcd":
            draft.trouble(f"{unit.path} starts {unit.program or 'nothing'}, whose flags for etcd are not read", BY_HAND)
            return _Source(None, unit.path, unit=unit)
        flags = etcd_options.from_words(unit.command[1:])
        variables = etcd_options.from_variables(unit.variables)
        folder = unit.working_folder or "/"
        if file := flags.get("config-file") or variables.get("config-file"):
            return _Source(_from_file(draft, file.text), reader.path(file.text), folder, unit)
        return _Source({**variables, **flags}, unit.path, folder, unit)
    except NotUnderstood as error:
        draft.trouble(f"{UNIT} is not understood: {error}", BY_HAND)
        return _Source(None, UNIT)


def _without_unit(draft: Draft) -> "_Source | str":
    reader = draft.reader
    for name in YAML_FILES:
        if reader.is_there(name):
            return _Source(_from_file(draft, name), reader.path(name))
    for name in VARIABLE_FILES:
        if variables := systemd_unit.variables_of_file(reader, name):
            return _Source(etcd_options.from_variables(variables), reader.path(name))
    return f"neither a unit {UNIT} nor {', '.join((YAML_FILES[0], *VARIABLE_FILES))}"


def _from_file(draft: Draft, name: str) -> Mapping[str, Value] | None:
    path = draft.reader.path(name)
    try:
        text = draft.reader.text(name)
        tree: Tree = parse(text or "")
    except NotUnderstood as error:
        draft.trouble(f"{path} is not understood: {error}", BY_HAND)
        return None
    if text is None or not isinstance(tree, dict):
        why = "does not exist, and etcd is started with it" if text is None else "is no mapping of etcd's options"
        draft.trouble(f"{path} {why}", BY_HAND)
        return None
    if opaque := [key for key in USED if isinstance(tree.get(key), Opaque)]:
        draft.trouble(f"{path} has {', '.join(opaque)} in a form that is not read", BY_HAND)
        return None
    return etcd_options.from_file(tree, path)


def _certainty(reader: Reader, source: _Source, data_dir: str) -> tuple[Certainty, str]:
    """How sure it is that etcd runs here: the unit is enabled, or at least there is data."""
    unit = source.unit
    if unit is None and source.options is None:
        return LIKELY, f"{source.path} is there, and is not understood"
    if unit is not None and unit.is_enabled:
        return SURE, f"{unit.path} is enabled"
    member = f"{data_dir}/member"
    if data_dir and reader.is_there(member):
        return LIKELY, f"{source.path}, and data in {reader.path(data_dir)}"
    what = f"{unit.path} is not enabled" if unit else f"{source.path} is there without a unit"
    return ABSENT, f"{what}, and there is no data of it in {reader.path(data_dir) if data_dir else 'a known folder'}"


def _data_dir(draft: Draft, source: _Source) -> str:
    """Sets etcd's data folder and returns it as a path of the node, empty when it is not known."""
    if source.options is None:
        return ""
    given = source.options.get("data-dir")
    name = source.options.get("name") or Value("default", "etcd's own default name")
    value = given or Value(f"{name.text}.etcd", "etcd's own default, since nothing sets data-dir")
    place = posixpath.normpath(posixpath.join(source.working_folder, value.text))
    if not _is_literal(place):
        draft.trouble(f"{value.why}: it is not a plain path", "set etcd.data_dir in the configuration")
        return ""
    draft.values[DATA_DIR] = Value(draft.reader.path(place), value.why)
    return place


def _endpoint(draft: Draft, source: _Source) -> None:
    if source.options is None:
        return
    listen = source.options.get("listen-client-urls", DEFAULT_LISTEN)
    endpoint = etcd_options.local_endpoint(listen.text)
    if not endpoint or not _is_literal(endpoint):
        draft.trouble(f"{listen.why}: none of it is a URL that can be used", "set etcd.endpoints in the configuration")
        return
    draft.values[ENDPOINTS] = Value(endpoint, listen.why)
    if endpoint.startswith("https:"):
        _tls(draft, source.options, source.path)


def _tls(draft: Draft, options: Options, path: str) -> None:
    if "cert-file" not in options:
        draft.trouble(
            f"{path}: etcd makes its certificate by itself (auto-tls), which nobody can verify",
            "give etcd a certificate of a CA (cert-file, key-file, trusted-ca-file)",
        )
        return
    authority = options.get("trusted-ca-file")
    if authority is None or not _is_absolute(authority):
        draft.trouble(
            f"{path}: etcd has a certificate (cert-file) and no trusted-ca-file, so its CA is not known",
            "set etcd.ca_cert to the CA that signed etcd's certificate",
        )
        return
    draft.values[CA_CERT] = Value(draft.reader.path(authority.text), authority.why)
    draft.material["etcd_ca"] = authority.text
    if etcd_options.is_true(options, "client-cert-auth"):
        _client_pair(draft, options, path, authority.text)


def _client_pair(draft: Draft, options: Options, path: str, authority: str) -> None:
    """A client's own certificate beside etcd's; else etcd's, where that one may be used by a client."""
    cert, key = options["cert-file"], options.get("key-file")
    folders = dict.fromkeys(posixpath.dirname(name) for name in (cert.text, authority))
    pairs = [pair for folder in folders for pair in client_certificate.folder_pairs(folder)]
    if key is not None and _is_absolute(cert) and _is_absolute(key):
        pairs.append(Pair(cert.text, key.text, "etcd's server, usable by a client"))
    before = len(draft.troubles)
    if not client_certificate.choose(draft, pairs) and len(draft.troubles) == before:
        draft.trouble(
            f"{path}: etcd asks its clients for a certificate, and none was found beside its own",
            "make a client certificate by the same CA; set etcd.cert and etcd.key to it",
        )


def _is_absolute(value: Value) -> bool:
    return value.text.startswith("/") and _is_literal(value.text)


def _is_literal(text: str) -> bool:
    """Whether nothing in it is still to be put in by systemd or a shell."""
    return not set(text) & set("$%\\\"'`*")
