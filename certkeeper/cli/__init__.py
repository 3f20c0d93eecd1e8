"""The operator's command line: arguments, rendering, exit codes."""
