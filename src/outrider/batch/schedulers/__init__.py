"""Schedulers: argv in, text out. No I/O: a session to the submit host runs what they say."""
