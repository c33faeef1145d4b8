"""The platforms: where etcd, its certificates, its data and its tools are on this node, found without configuration."""
