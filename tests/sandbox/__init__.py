"""A whole control plane on loopback, and the tools that set it up."""
