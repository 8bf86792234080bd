"""Benchmarks: this server beside others, under the same load, in the same run. See README.md."""
