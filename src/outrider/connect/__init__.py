"""Streams to places that have none: where all that can be done is to run a command and read what it printed.

A connector runs one command line there (`connector.py`: what it is; `program.py`, `superfacility.py`). `stream.py` makes a
stream of that, with `there.py`, which is sent along and keeps the command at the far side running between two visits.
"""
