"""The native engine of the sandbox: a warden, its slots, and in each a job that is limited, isolated and measured.

It runs as a program of its own beside the far end: `boot` starts it, `warden` is its life.
"""
