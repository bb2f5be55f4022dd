"""Two sync workers, as most small shops run it: one request at a time each, and `Connection: close`."""

import ctypes
import os
import signal

workers = int(os.environ.get("BOOKING_WORKERS", "2"))
worker_class = "sync"
preload_app = True  # imported once, before the socket exists: who can connect is served
timeout = 60  # a held request lasts up to 30 s and must not look like a hung worker
graceful_timeout = 1
loglevel = "warning"
control_socket_disable = True

PR_SET_PDEATHSIG = 1


def post_fork(server, worker):
    """A sync worker notices a master that was killed with -9 only at its next timeout, and keeps the port
    until then. Linux can tell it at once; elsewhere the delay stays."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except AttributeError:
        pass
