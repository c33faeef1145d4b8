"""What runs inside the agent's processes: tells the points they pass, and dies, or kills others, at a chosen one.

A point is `role:kind:place:number:moment`, such as `worker:link:store/manifest:1:before`: the first link(2) below the
store's manifests in the process of a worker, before it happens. The agent's own code stays as it is: the functions of
`os` that change a folder are wrapped, and a few of the agent's after their module is imported.
"""

import importlib.abc
import importlib.machinery
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.chaos import brisk, killing, parking, points, sabotage

HOLD_TIMEOUT_S = 120.0
PLACES = (  # below the root, the first that fits
    ("var/lib/etcd-agent/spool/", "spool/"),
    ("var/lib/etcd-agent/snapshots/", "store/"),
    ("var/lib/etcd-agent/", ""),
)
TOOL_COMMANDS = ("snapshot save", "snapshot status", "endpoint status", "member list", "alarm list", "get", "version")
_system: dict[str, Any] = {name: getattr(os, name) for name in ("open", "kill", "write", "close")}


class Injector:
    """The points of this process, and the plan: one injection after the other, each at most once in all processes."""

    def __init__(self, plan_path: Path) -> None:
        plan = json.loads(plan_path.read_text())
        self._folder = plan_path.parent
        self._root: str = plan["root"]
        self._injections: Sequence[dict[str, str]] = plan["injections"]
        self._records: bool = plan["record"]
        self._role = killing.role_of(sys.orig_argv)
        self._counts: Counter[str] = Counter()

    def place_of(self, path: Any, folder_descriptor: int | None = None) -> str:
        """Which of the agent's folders a path is in, "" for all others, those of the log among them."""
        text = os.fsdecode(os.fspath(path))
        if folder_descriptor is not None:
            text = f"{Path(f'/proc/self/fd/{folder_descriptor}').readlink()}/{text}"
        if not text.startswith(f"{self._root}/"):
            return ""
        below = text[len(self._root) + 1 :]
        for prefix, shown in PLACES:
            if below.startswith(prefix):
                parts = below[len(prefix) :].split("/")
                name = _store_folder(parts) if shown == "store/" else parts[0]
                return f"{shown}{name}"
        return ""

    @contextmanager
    def around(self, kind: str, place: str) -> Iterator[None]:
        """Before and after something that changes the world; nothing after it when it fails."""
        point = self.numbered(kind, place)
        self.at(f"{point}:before")
        yield
        self.at(f"{point}:after")

    def numbered(self, kind: str, place: str) -> str:
        """The name of the next point of that kind and place, without its moment."""
        name = f"{self._role}:{kind}:{place}"
        self._counts[name] += 1
        return f"{name}:{self._counts[name]}"

    def at(self, point: str) -> None:
        """This process is at that point now."""
        if self._records:
            self._append("points", point)
        for number, injection in enumerate(self._injections):
            if not (self._folder / f"fired-{number}").exists():
                if injection["point"] == point and self._is_first(number):
                    self._fire(number, injection["victim"])
                return  # the later ones wait for the earlier ones

    def _append(self, name: str, line: str) -> None:
        descriptor = _system["open"](self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _system["write"](descriptor, f"{line}\n".encode())
        _system["close"](descriptor)

    def _is_first(self, number: int) -> bool:
        try:
            _system["close"](_system["open"](self._folder / f"fired-{number}", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True

    def _fire(self, number: int, victim: str) -> None:
        if victim == "self":
            _system["kill"](os.getpid(), signal.SIGKILL)
        elif victim == "hold":
            self._hold(number)
        elif victim == "stop":
            killing.stop(self._root)
        else:
            killing.kill_all(self._root, victim)

    def _hold(self, number: int) -> None:
        """Stays here until it is let go: so two processes meet in a chosen order."""
        ends_at = time.monotonic() + HOLD_TIMEOUT_S
        while not (self._folder / f"go-{number}").exists() and time.monotonic() < ends_at:
            time.sleep(0.005)


def _impatient() -> dict[str, Callable[[ModuleType], None]]:
    """What the daemon does a while after its start it does at once."""

    def look_again_at_once(module: Any) -> None:
        module.SECOND_LOOK_S = 0.2

    def unfinished_at_once(module: Any) -> None:
        module.UNFINISHED_FOR_S = 0.1

    return {"agent.daemon": look_again_at_once, "agent.housekeeping": unfinished_at_once}


def _store_folder(parts: Sequence[str]) -> str:
    """Those of all classes and clusters are one: `<class>/<data|manifest>/<cluster>`, `coordination/<cluster>/…`."""
    if len(parts) <= 2:
        return "folders"
    return "coordination" if parts[0] == "coordination" else parts[1]


def install(plan_path: str) -> None:
    """Puts the points around everything this process does from now on."""
    injector = Injector(Path(plan_path))
    points.wrap(injector)
    patches: dict[str, Callable[[ModuleType], None]] = {
        "agent.operations.steps": lambda module: _wrap_steps(injector, module),
        "agent.adapters.aws": lambda module: _wrap_aws(injector, module),
        **(_impatient() if "CHAOS_IMPATIENT" in os.environ else {}),
        **(brisk.patches(injector, float(os.environ["CHAOS_BRISK"])) if "CHAOS_BRISK" in os.environ else {}),
        **parking.patches(Path(plan_path).parent),
        **sabotage.patches(os.environ.get("CHAOS_SABOTAGE", "")),
    }
    _wrap_popen(injector)
    sys.meta_path.insert(0, AfterImport(patches))


class AfterImport(importlib.abc.MetaPathFinder):
    """Changes a module as soon as it is there."""

    def __init__(self, patches: dict[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        patch = self._patches.get(fullname)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if patch else None
        if patch is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


def _wrap_popen(injector: Injector) -> None:
    original = subprocess.Popen.__init__

    def wrapped(self: Any, argv: Any, *arguments: Any, **named: Any) -> None:
        place = _program([str(word) for word in argv])
        with injector.around("spawn", place):
            original(self, argv, *arguments, **named)

    subprocess.Popen.__init__ = wrapped  # type: ignore[method-assign,assignment]


def _program(argv: Sequence[str]) -> str:
    """What is started: `worker`, `caretaker`, or a tool with its command, such as `etcdctl.snapshot-save`."""
    if "worker" in argv:
        return "caretaker" if "--caretaker" in argv else "worker"
    command = next((text for text in TOOL_COMMANDS if f" {text} " in f" {' '.join(argv)} "), "other")
    return f"{Path(argv[0]).name}.{command.replace(' ', '-')}"


def _wrap_steps(injector: Injector, module: Any) -> None:
    original = module.Steps.step

    @contextmanager
    def step(self: Any, name: str, **named: Any) -> Iterator[None]:
        point = injector.numbered("step", name)
        injector.at(f"{point}:before")
        with original(self, name, **named):
            injector.at(f"{point}:entered")
            yield
            injector.at(f"{point}:leaving")
        injector.at(f"{point}:after")

    module.Steps.step = step


def _wrap_aws(injector: Injector, module: Any) -> None:
    original = module.AwsClient.call

    def call(self: Any, operation: str, **arguments: Any) -> Any:
        with injector.around("s3", operation):
            return original(self, operation, **arguments)

    module.AwsClient.call = call
