"""Makes `.venv` with exactly the versions of constraints.txt, also where `python3 -m venv` alone fails.

Standard library only: it runs before anything is installed. Debian without python3-venv has no ensurepip;
pip then comes out of the package python3-pip-whl, fetched without installing it.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.setup import debian

PROJECT = Path(__file__).resolve().parents[2]
VENV = PROJECT / ".venv"
LEAST_PYTHON = (3, 11)
EVERYONE_MAY_EXECUTE = 0o001


def main() -> int:
    """Returns 0 when `.venv` fits; prints what is missing otherwise."""
    mark, wanted = VENV / "made-from", _fingerprint()
    if mark.exists() and mark.read_text() == wanted and _works(VENV / "bin/python"):
        return 0
    interpreter = choose_interpreter()
    print(f"making .venv with {interpreter} …", flush=True)
    _run([interpreter, "-m", "venv", "--without-pip", "--clear", str(VENV)])
    pip = [str(VENV / "bin/python"), str(pip_wheel(interpreter) / "pip"), "--disable-pip-version-check"]
    _run([
        *pip, "install", "--quiet", "--no-build-isolation", "--constraint", str(PROJECT / "constraints.txt"),
        "hatchling", "editables",
    ])  # fmt: skip
    _run([
        *pip, "install", "--quiet", "--no-build-isolation", "--constraint", str(PROJECT / "constraints.txt"),
        "--editable", f"{PROJECT}[dev]",
    ])  # fmt: skip
    mark.write_text(wanted)
    return 0


def choose_interpreter() -> str:
    """$PYTHON or Debian's own python3, else the one on PATH; never one that other users cannot execute."""
    candidates = [os.environ.get("PYTHON") or "/usr/bin/python3", sys.executable]
    reasons = []
    for candidate in candidates:
        if reason := _unfit(candidate):
            reasons.append(f"{candidate}: {reason}")
        else:
            return candidate
    sys.exit("no Python that fits:\n  " + "\n  ".join(reasons) + "\ninstall python3 (3.11 or newer), or set PYTHON")


def pip_wheel(interpreter: str) -> Path:
    """A wheel of pip: the interpreter's own, or Debian's."""
    probe = (
        "import ensurepip, pathlib; print(*(pathlib.Path(ensurepip.__file__).parent / '_bundled').glob('pip-*.whl'))"
    )
    found = subprocess.run([interpreter, "-c", probe], capture_output=True, text=True, check=False).stdout.split()
    if found:
        return Path(found[0])
    folder = debian.unpack("bookworm", ["python3-pip-whl"], debian.cache() / "debian/pip")
    return next(folder.glob("usr/share/python-wheels/pip-*.whl"))


def _unfit(interpreter: str) -> str:
    probe = f"import sys, venv; sys.exit(sys.version_info < {LEAST_PYTHON})"
    try:
        completed = subprocess.run([interpreter, "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        return error.strerror or str(error)
    if completed.returncode != 0:
        return "older than 3.11, or without the module venv"
    path = Path(os.path.realpath(interpreter))
    for part in (path, *path.parents):
        if not part.stat().st_mode & EVERYONE_MAY_EXECUTE:
            return f"other users can not execute it ({part})"
    return ""


def _works(python: Path) -> bool:
    """Whether the interpreter still runs and imports the project from here."""
    if not python.exists():
        return False
    probe = "import agent, os, sys; sys.exit(os.path.realpath(agent.__path__[0]) != sys.argv[1])"
    return (
        subprocess.run([python, "-c", probe, str(PROJECT / "agent")], capture_output=True, check=False).returncode == 0
    )


def _fingerprint() -> str:
    digest = hashlib.sha256((PROJECT / "constraints.txt").read_bytes())
    # What stands below the first [tool.…] table sets up linters and tests, not the environment.
    digest.update((PROJECT / "pyproject.toml").read_text().partition("\n[tool.")[0].encode())
    return f"{digest.hexdigest()} {VENV}\n"


def _run(argv: list[str]) -> None:
    environment = {**os.environ, "PIP_NO_WARN_SCRIPT_LOCATION": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    if subprocess.run(argv, env=environment, check=False).returncode != 0:
        sys.exit(
            f"failed: {' '.join(argv[:4])} …\n"
            "  next: is the Python package index reachable from here? pip's own message is above"
        )


if __name__ == "__main__":
    sys.exit(main())
