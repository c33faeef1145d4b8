"""What the agent needs of etcd, proven on each version: `make test` runs it on 3.5, `make test-etcd` on the others."""
