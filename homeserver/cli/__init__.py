"""The `hearth` command: one file for each of its commands, put together in `main`.

What a command says goes to standard output, what is wrong to standard error; its exit
status is 0, 1 when something is wrong, 2 when it was called wrongly.
"""
