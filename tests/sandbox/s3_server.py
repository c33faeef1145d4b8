"""A real S3 server: versitygw where it was built (`make tools`), else moto, which proves no integrity."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox.free_ports import free_port
from tests.sandbox.processes import Child, Processes, wait_until
from tests.setup import debian

ACCESS_KEY, SECRET_KEY, REGION = "sandbox-access", "sandbox-secret", "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket."""

    name: str
    endpoint_url: str
    bucket: str
    proves_integrity: bool
    child: Child

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it: on EC2 this is the instance role."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client of it, for looking at what lies there."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3", endpoint_url=self.endpoint_url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            region_name=REGION, config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip


def start(processes: Processes, folder: Path, bucket: str = "backups") -> S3Server:
    """Starts the best server there is and makes the bucket."""
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    gateway = debian.cache() / "tools/versitygw"
    if gateway.exists():
        data = folder / "s3"
        data.mkdir(parents=True, exist_ok=True)
        argv = [str(gateway), "--port", f"127.0.0.1:{port}", "posix", "--versioning-dir", str(folder / "s3-versions")]
        (folder / "s3-versions").mkdir(exist_ok=True)
        environment = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY, "PATH": "/usr/bin:/bin"}
        child = processes.start("s3", [*argv, str(data)], environment)
        server = S3Server("versitygw", url, bucket, True, child)
    else:
        moto = Path(sys.executable).with_name("moto_server")
        child = processes.start("s3", [str(moto), "-H", "127.0.0.1", "-p", str(port)], {"PATH": "/usr/bin:/bin"})
        server = S3Server("moto", url, bucket, False, child)
    wait_until(lambda: bucket_made(server), f"{server.name} does not answer at {url}", child=child)
    return server


def bucket_made(server: S3Server) -> bool:
    """Whether the server answers, by now with the bucket."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        server.client().create_bucket(Bucket=server.bucket)
    except ClientError as error:
        return error.response["Error"]["Code"] in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
    except BotoCoreError:
        return False
    return True
