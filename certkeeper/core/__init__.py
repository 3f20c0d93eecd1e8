"""Every when, which and may. Standard library, no I/O, no clock."""
