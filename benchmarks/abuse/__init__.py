"""A server under attack: what it holds, and how long others wait meanwhile. ``python -m benchmarks.abuse``."""
