"""The stage of the deployment tests: processes that end with their test, ports, requests, waiting.

In: the environment that tests/deploy/run sets (REPRISE_BIN). Out: small helpers with no opinion on what is tested.
Whatever is started here is ended here, by its own process id.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("REPRISE_BIN", ROOT / "target/debug/reprise"))
TOKENS = {"alice": "a" * 40, "bob": "b" * 40, "carol": "c" * 40}


def say(*words):
    print(*words, flush=True)


def check(holds, *told):
    """A check whose failure is the end of the test."""
    if not holds:
        sys.exit(f"{Path(sys.argv[0]).name}: " + " ".join(str(word) for word in told))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, holds, seconds=20.0):
    """Waits for something to hold and gives it; never longer than this."""
    deadline = time.monotonic() + seconds
    while True:
        if found := holds():
            return found
        check(time.monotonic() < deadline, f"after {seconds:.0f} s not yet: {what}")
        time.sleep(0.02)


class Answer(NamedTuple):
    status: int  # 0: there was none
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


NOTHING = Answer(0, {}, b"")


def ask(port, path, method="GET", headers=None, body=None, timeout=10, host="127.0.0.1"):
    """One request on a connection of its own; `NOTHING` if there is no answer."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    with contextlib.closing(connection):
        try:
            return send(connection, path, method, headers, body)
        except (OSError, http.client.HTTPException):
            return NOTHING


def send(connection, path, method="GET", headers=None, body=None):
    """One request on a connection that stays open."""
    headers = dict(headers or {})
    if body is not None:
        body = json.dumps(body)
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body=body, headers=headers)
    reply = connection.getresponse()
    return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())


def token(user):
    return {"Authorization": f"Token {TOKENS[user]}"}


def series(port):
    """What is at /metrics: name{labels} to value."""
    lines = ask(port, "/metrics").body.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


class Process:
    """A process with its output in a file. Leaving the `with` ends it and waits."""

    def __init__(self, name, command, folder, env=None, cwd=None):
        self.name, self.log = name, Path(folder) / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=cwd,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=60.0):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            check(False, f"{self.name} has not ended after {seconds:.0f} s")

    def alive(self):
        check(self.process.poll() is None, f"{self.name} has ended:\n{self.output()[-3000:]}")
        return True

    def output(self):
        return self.log.read_text(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def folder():
    """A folder that every user can read, and that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="reprise-deploy-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def backend(port, path, name="app", **env):
    """The booking backend of tests/backend, once it can be connected to."""
    command = [ROOT / "tests/backend/run", port, path / "database"]
    process = Process(name, command, path, env)
    until(f"{name} listens", lambda: process.alive() and listens(port), 60)
    return process


def redis(port, path):
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", path]
    command += ["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"]
    process = Process("redis", command, path)
    until("redis listens", lambda: process.alive() and listens(port))
    return process


def shipped(traffic, admin, redis):
    """The repository's proxy.toml on other ports, with its Redis switched on, and a lease that a busy machine can keep."""
    text = (ROOT / "proxy.toml").read_text()
    for old, new in [
        ("0.0.0.0:8080", f"127.0.0.1:{traffic}"),
        ("0.0.0.0:9090", f"127.0.0.1:{admin}"),
        ("# [redis]\n", "[redis]\n"),
        ('mode = "strong" ', 'lease = "5s"\nmode = "strong" '),
        ('# url = "redis://redis:6379/3"', f'url = "redis://127.0.0.1:{redis}/3"'),
    ]:
        check(text.count(old) == 1, f"proxy.toml has not one {old!r}")
        text = text.replace(old, new)
    return text


def listens(port, host="127.0.0.1"):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
