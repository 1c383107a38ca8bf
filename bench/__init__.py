"""The benchmark: Tentáculo Link and the proxies people would pick, doing the same work on one core of this machine.

`make bench` runs it. `__main__` reads the options, `run` goes through `cases` in rounds, `peers` says how each proxy is
started, `load` asks, `programs` are what runs as a process of its own, and `table` and `plot` write what came out.
"""
