"""A service's unit as systemd reads it: main file, drop-ins, variables, and the command line that they make."""

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.platforms.finding import Value
from agent.platforms.plain_yaml import NotUnderstood
from agent.platforms.reading import Reader

FOLDERS = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system",
)  # fmt: skip
SHELLS = ("sh", "bash", "dash")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SHELL_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
WHOLE_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
ESCAPE = re.compile(r"\\[^\"'\\$ ]")
SHELL_SYNTAX = frozenset(";|&<>`\n")


@dataclass(frozen=True)
class Unit:
    """What is known of a unit; `command` is its ExecStart= word by word, the program first."""

    path: str
    is_masked: bool
    is_enabled: bool
    command: tuple[Value, ...]
    variables: Mapping[str, Value]
    working_folder: str

    @property
    def program(self) -> str:
        """The name of the program that it starts."""
        return posixpath.basename(self.command[0].text) if self.command else ""


@dataclass(frozen=True)
class _Setting:
    section: str
    name: str
    value: str
    why: str


def find(reader: Reader, name: str) -> Unit | None:
    """The unit of that name, None when there is none. Raises Unreadable, NotUnderstood."""
    main = next((path for folder in FOLDERS if reader.is_there(path := f"{folder}/{name}", follow=False)), None)
    if main is None:
        return None
    if reader.link_target(main) == "/dev/null":
        return Unit(reader.path(main), True, False, (), {}, "")
    settings = [setting for path in [main, *_drop_ins(reader, name)] for setting in _settings(reader, path)]
    service = [setting for setting in settings if setting.section == "Service"]
    variables = _variables(reader, service, name)
    installable = any(setting.section == "Install" for setting in settings)
    folders = [_expanded(setting.value, name) for setting in service if setting.name == "WorkingDirectory"]
    return Unit(
        path=reader.path(main),
        is_masked=False,
        is_enabled=not installable or _is_wanted(reader, name),
        command=tuple(_command(service, name, variables)),
        variables=variables,
        working_folder=folders[-1] if folders else "",
    )


def variables_of_file(reader: Reader, path: str) -> dict[str, Value] | None:
    """A file of KEY=VALUE lines, None when it is not there. Raises Unreadable, NotUnderstood."""
    text = reader.text(path)
    if text is None:
        return None
    found: dict[str, Value] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, separator, raw = line.strip().partition("=")
        if not separator or line.strip()[0] in "#;":
            continue
        if raw.endswith("\\"):
            raise NotUnderstood(f"{reader.path(path)} line {number} goes on in the next one")
        words = _split(raw, f"{reader.path(path)} line {number}") if raw[:1] in ("'", '"') else [raw.strip()]
        found[name.removeprefix("export ").strip()] = Value(" ".join(words), reader.path(path))
    return found


def _drop_ins(reader: Reader, name: str) -> list[str]:
    """The drop-ins by their file's name; of two with one name that of the folder that goes first."""
    found: dict[str, str] = {}
    for folder in reversed(FOLDERS):
        drop_in = f"{folder}/{name}.d"
        found |= {file: f"{drop_in}/{file}" for file in reader.names(drop_in) if file.endswith(".conf")}
    return [found[file] for file in sorted(found)]


def _is_wanted(reader: Reader, name: str) -> bool:
    """Whether something that starts at boot asks for it: what `systemctl enable` does."""
    return any(
        reader.is_there(f"{units}/{folder}/{name}", follow=False)
        for units in FOLDERS
        for folder in reader.names(units)
        if folder.endswith((".wants", ".requires"))
    )


def _settings(reader: Reader, path: str) -> Iterator[_Setting]:
    section = joined = ""
    for raw in (reader.text(path) or "").splitlines():
        line = raw.strip()
        if line[:1] in ("#", ";") or not (line or joined):
            continue
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        line, joined = joined + line, ""
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            name, _, value = line.partition("=")
            yield _Setting(section, name.strip(), value.strip(), reader.path(path))


def _variables(reader: Reader, service: Sequence[_Setting], unit: str) -> dict[str, Value]:
    """Environment= first, then what the files of EnvironmentFile= say, as systemd does it."""
    found: dict[str, Value] = {}
    files: list[str] = []
    for setting in service:
        if setting.name == "Environment":
            pairs = [word.partition("=") for word in _split(setting.value, setting.why)]
            found = {} if not pairs else found
            found |= {name: Value(_expanded(value, unit), setting.why) for name, _, value in pairs}
        elif setting.name == "EnvironmentFile":
            path = _expanded(setting.value.removeprefix("-"), unit)
            files = [*files, path] if path else []
    for path in files:
        found |= variables_of_file(reader, path) or {}
    return found


def _command(service: Sequence[_Setting], unit: str, variables: Mapping[str, Value]) -> Iterator[Value]:
    started = [setting for setting in service if setting.name == "ExecStart"]
    resets = [number for number, setting in enumerate(started) if not setting.value]
    started = started[resets[-1] + 1 :] if resets else started
    if len(started) != 1:
        raise NotUnderstood(f"the unit {unit} has {len(started)} lines ExecStart=, not one")
    words = _split(_expanded(started[0].value, unit), started[0].why)
    program, arguments = (words[0].lstrip("-:+!") if words else ""), words[1:]
    if posixpath.basename(program) in SHELLS and arguments[:1] == ["-c"] and len(arguments) == 2:
        yield from _words_of_script(arguments[1], started[0].why, variables)
        return
    yield Value(program, started[0].why)
    for word in arguments:
        if whole := WHOLE_VARIABLE.fullmatch(word):
            yield from _split_value(variables.get(whole[1]))
        else:
            yield Value(VARIABLE.sub(lambda match: _text(variables, match[1]), word), started[0].why)


def _words_of_script(script: str, why: str, variables: Mapping[str, Value]) -> Iterator[Value]:
    """The one command of a shell's line, such as `GOMAXPROCS=$(nproc) /usr/bin/etcd --name="${ETCD_NAME}"`."""
    if SHELL_SYNTAX & set(script):
        raise NotUnderstood(f"{why} starts more than one simple command by a shell")
    words = _split(script, why)
    while words and (ASSIGNMENT.fullmatch(words[0]) or words[0] == "exec"):
        if words.pop(0).startswith("ETCD_"):
            raise NotUnderstood(f"{why} sets etcd's variables by a shell")
    for word in words:
        if whole := SHELL_VARIABLE.fullmatch(word):
            yield from _split_value(variables.get(whole[1] or whole[2]))
        else:
            yield Value(SHELL_VARIABLE.sub(lambda match: _text(variables, match[1] or match[2]), word), why)


def _split_value(value: Value | None) -> Iterator[Value]:
    if value is not None:
        yield from (Value(word, value.why) for word in value.text.split())


def _text(variables: Mapping[str, Value], name: str) -> str:
    return variables[name].text if name in variables else ""


def _split(text: str, why: str) -> list[str]:
    if ESCAPE.search(text):
        raise NotUnderstood(f"{why} has escapes that are not read here")
    try:
        return shlex.split(text)
    except ValueError:
        raise NotUnderstood(f"{why} has quotes that do not close") from None


def _expanded(text: str, unit: str) -> str:
    """Puts in what is the unit's own name; other specifiers stay, and a value with one is not used."""
    name = unit.removesuffix(".service")
    known = {"%n": unit, "%N": name, "%p": name, "%i": "", "%%": "%"}
    return re.sub("%[nNpi%]", lambda match: known[match[0]], text)
