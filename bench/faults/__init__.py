"""The fault bench: what callers notice of a broken replica behind Tentáculo Link, HAProxy and nginx.

`make faults` runs it. `__main__` reads the options, `run` goes through the rows of `catalogue`; for each row and proxy
a `rig` is a process of its own with `replica`s that can be broken, a proxy of `peers` and a steady `load`. What the rig
saw is a `trace`; `measures` makes numbers of it, `verdict` compares them, and `table` writes docs/faults.md.
"""
