"""The command line: one file per subcommand, and ``main.py``, which finds the right one."""
