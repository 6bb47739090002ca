"""Proxies side by side under the same load; see tests/bench/README.md."""
