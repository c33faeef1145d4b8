"""The on-node program of etcd-agent: backups and safe membership changes, one trace id for all of it."""

__version__ = "0.1.0"
