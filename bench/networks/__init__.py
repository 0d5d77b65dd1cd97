"""The architectures, and what one of your own is made with: ``from bench.networks import Network``."""

from bench.networks.base import Network, NetworkOptions

__all__ = ["Network", "NetworkOptions"]
