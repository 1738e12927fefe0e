"""Costs of a graph: MACs, flash, SRAM, latency, by runtime."""
