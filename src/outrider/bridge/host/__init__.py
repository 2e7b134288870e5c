"""The host's end over a unix socket. Standard library only, Python 3.8 or newer; what may run, `server.sh` says."""
