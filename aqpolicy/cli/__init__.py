"""The command line: one module per command, each with `register(subparsers)`.

Input: arguments; output: text and an exit status (0 clean, 1 findings, 2 usage
or input error, 3 not proven). Start at `main.main`; a command's own imports
happen when it runs.
"""
