"""The S3 servers that every contestant writes to, at the far end of a link."""

from pathlib import Path

from tests.bench.link import Link
from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Processes, wait_until
from tests.sandbox.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, bucket_made
from tests.setup import bench_tools, debian

BUCKET = "backups"


def start(kind: str, processes: Processes, folder: Path, link: Link) -> S3Server:
    """`versitygw` or `rclone`; ends the program where the first was not built."""
    data = folder / f"{kind}-{link.name}"
    data.mkdir(parents=True)
    port = free_port("127.0.0.1")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder)}
    if kind == "versitygw":
        program = debian.cache() / "tools/versitygw"
        if not program.exists():
            raise SystemExit("versitygw is not in the cache: `make tools` builds it where there is a Go")
        argv = [str(program), "--port", f"{link.address}:{port}", "posix", str(data)]
        environment |= {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    else:
        (data / BUCKET).mkdir()
        program = bench_tools.folder() / "bin/rclone"
        argv = [
            str(program),
            "serve",
            "s3",
            "--config",
            str(folder / "rclone.conf"),
            "--addr",
            f"{link.address}:{port}",
        ]
        argv += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", str(data)]
    child = processes.start(f"{kind}-{link.name}", [*link.enter, *argv], environment)
    server = S3Server(kind, f"http://{link.address}:{port}", BUCKET, kind == "versitygw", child)
    wait_until(lambda: bucket_made(server), f"{kind} does not answer at {server.endpoint_url}", child=child)
    return server
