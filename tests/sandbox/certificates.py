"""The sandbox's certificate authority: one certificate per member, used by it as server, peer and client."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """Paths of a certificate and of what is needed to use it."""

    ca_cert: Path
    cert: Path
    key: Path


class Authority:
    """An own CA in a folder."""

    def __init__(self, folder: Path, organization: str = "sandbox") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA(organization_name=organization)
        self.ca_cert = folder / "ca.crt"
        self._authority.cert_pem.write_to_path(str(self.ca_cert))

    def issue(
        self, name: str, *hosts: str, begins_at: datetime | None = None, ends_at: datetime | None = None
    ) -> Certificate:
        """A certificate for those addresses, valid for servers and for clients, until `ends_at` or for years."""
        issued = self._authority.issue_cert(*hosts, common_name=name, not_before=begins_at, not_after=ends_at)
        cert, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return Certificate(self.ca_cert, cert, key)
