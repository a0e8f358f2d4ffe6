"""Emulated machines: other kernels, another architecture, hardware-style KVM, two NUMA nodes."""
