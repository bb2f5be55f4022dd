"""Plays the kubelet, with the rendered manifest as its script and real processes as containers.

1. The sidecar starts before the app: its probes pass without one, what is asked is answered honestly, and the app is found
   when it comes. It runs as the manifest's user, with a read-only root and no capabilities.
2. The ConfigMap is swapped as kubelets do it (a new folder, a symbolic link renamed), three times, once with a broken file.
3. A pod is deleted under load, in the kubelet's order: its endpoint goes a moment later, the app's preStop sleeps, the app
   is stopped, and only then the sidecar. No request fails, and everything is over within the grace period.

In: MANIFEST (a rendered overlay), REPRISE_BIN. Clients here are as ingress controllers are: they follow the endpoints.
"""

import http.client
import itertools
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

from stage import BINARY, Process, ask, backend, check, folder, free_port, redis, say, send, series, token, until

import yaml

APP, SIDECAR = "app", "reprise"
PROPAGATION = 1.0  # seconds until everybody has heard that an endpoint is gone; the preStop sleep has to outlast it
LOAD = 6  # clients
CONFIG = """
[server]
listen = "127.0.0.1:{traffic}"
drain_timeout = "20s"
[upstream]
url = "http://127.0.0.1:{app}"
[admin]
listen = "127.0.0.1:{admin}"
[memory]
max_size = "64MiB"
[redis]
url = "redis://127.0.0.1:{redis}/3"
[coherence]
lease = "5s" # that a busy machine can keep
[[route]]
name = "movies"
match = "/api/movies/**"
ttl = "1m"
scope = "shared"
tags = ["movies"]
[[route]]
name = "seats"
match = "/api/showtimes/{{showtime}}/availability/"
ttl = "1m"
scope = "shared"
tags = ["showtime:{{showtime}}"]
[[write]]
on = "POST /api/bookings/"
drop = ["showtime:{{response.showtime}}"]
"""
ROUTE = '[[route]]\nname = "{name}"\nmatch = "/api/{name}/"\nttl = "1m"\nscope = "shared"\n'


class Manifest:
    """What the kubelet reads in the pod's template."""

    def __init__(self, path):
        documents = yaml.safe_load_all(Path(path).read_text())
        deployment = next(document for document in documents if document["kind"] == "Deployment")
        self.pod = deployment["spec"]["template"]["spec"]
        self.sidecar = next(c for c in self.pod["initContainers"] if c["name"] == SIDECAR)
        self.app = self.pod["containers"][0]
        check(self.sidecar["restartPolicy"] == "Always", "the sidecar is not a native one")

    @property
    def sleep(self):
        return self.app.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)

    @property
    def grace(self):
        return self.pod.get("terminationGracePeriodSeconds", 30)

    def probe(self, name, admin):
        """Asks what a probe asks, and says whether it passes."""
        probe = self.sidecar[name]["httpGet"]
        check(probe["port"] == "proxy-admin", f"{name} asks {probe['port']}")
        return 200 <= ask(admin, probe["path"], timeout=self.sidecar[name].get("timeoutSeconds", 1)).status < 400


class Volume:
    """A mounted ConfigMap: the file is a link into ..data, and ..data a link to a folder that is replaced."""

    def __init__(self, path):
        self.path, self.versions = path, itertools.count(1)
        path.mkdir(mode=0o755)

    def write(self, text):
        folder = self.path / f"..version-{next(self.versions)}"
        folder.mkdir(mode=0o755)
        (folder / "proxy.toml").write_text(text)
        old = (self.path / "..data").resolve()
        (self.path / "..data_tmp").symlink_to(folder.name)
        os.rename(self.path / "..data_tmp", self.path / "..data")
        if not (self.path / "proxy.toml").is_symlink():
            (self.path / "proxy.toml").symlink_to("..data/proxy.toml")
        elif old != folder:
            shutil.rmtree(old)  # the kubelet removes the old folder at once


class Pod:
    """One pod: ports, a volume, a sidecar, and an app that may come later."""

    def __init__(self, name, manifest, path, shared):
        self.name, self.manifest, self.shared = name, manifest, shared
        self.path = path / name
        self.path.mkdir(mode=0o755)
        self.ports = dict(zip(("app", "traffic", "admin"), (free_port() for _ in range(3))), redis=shared["redis"])
        self.volume = Volume(self.path / "config")
        self.text = CONFIG.format(**self.ports)
        self.volume.write(self.text)
        self.app = None

    def start_sidecar(self):
        """Starts the container as its securityContext says, and gives how often the startup probe failed first."""
        context = self.manifest.sidecar["securityContext"]
        uid, gid = context["runAsUser"], context["runAsGroup"]
        check(context["readOnlyRootFilesystem"] and context["capabilities"]["drop"] == ["ALL"], context)
        script = f"""mount -o remount,bind,ro / && exec setpriv --reuid {uid} --regid {gid} --clear-groups \
            --no-new-privs --bounding-set=-all --inh-caps=-all "$@" """
        binary = self.path.parent / "reprise"
        if not binary.exists():
            shutil.copy(BINARY, binary)
            binary.chmod(0o755)
        mount = self.manifest.sidecar["volumeMounts"][0]["mountPath"]
        args = [arg.replace(mount, str(self.volume.path)) for arg in self.manifest.sidecar["args"]]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", binary, *args]
        self.sidecar = Process(f"{self.name}-sidecar", command, self.path, cwd=self.volume.path)
        probe = self.manifest.sidecar["startupProbe"]
        for failed in range(probe["failureThreshold"]):
            if self.manifest.probe("startupProbe", self.ports["admin"]):
                return failed
            self.sidecar.alive()
            time.sleep(probe["periodSeconds"])  # as the kubelet does
        check(False, "the startup probe never passed: the app would never be started")

    def start_app(self):
        self.app = backend(self.ports["app"], self.shared["path"], f"{self.name}-app", BOOKING_KEEP="1", BOOKING_WORKERS="2")

    def get(self, path, **more):
        return ask(self.ports["traffic"], path, **more)

    def delete(self, endpoints):
        """Deletes the pod in the kubelet's order, and gives how long it took."""
        began = time.monotonic()
        gone = threading.Timer(PROPAGATION, endpoints.remove, [self])
        gone.start()
        time.sleep(self.manifest.sleep)
        self.app.signal(signal.SIGTERM)
        self.app.wait(self.manifest.grace)
        self.sidecar.signal(signal.SIGTERM)
        code = self.sidecar.wait(self.manifest.grace)
        took = time.monotonic() - began
        gone.join()
        check(code == 0, f"the sidecar's exit code is {code}")
        check(took < self.manifest.grace, f"it took {took:.0f} s of {self.manifest.grace} s")
        return took

    def end(self):
        for process in (self.sidecar, self.app):
            if process:
                process.__exit__()


def start_without_the_app(pod):
    failed = pod.start_sidecar()
    for probe in ("livenessProbe", "readinessProbe"):
        check(pod.manifest.probe(probe, pod.ports["admin"]), f"{probe} fails without the app")
    lines = Path(f"/proc/{pod.sidecar.pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    uid = pod.manifest.sidecar["securityContext"]["runAsUser"]
    check(status["Uid"].split() == [str(uid)] * 4 == ["65532"] * 4, "uid", status["Uid"])
    check(int(status["CapEff"], 16) == 0 and status["NoNewPrivs"].strip() == "1", "privileges", status)
    mounts = [line.split() for line in Path(f"/proc/{pod.sidecar.pid}/mountinfo").read_text().splitlines()]
    roots = [mount for mount in mounts if mount[4] == "/"]
    check("ro" in roots[-1][5].split(","), "its root can be written to")
    answer = pod.get("/api/movies/")
    check(answer.status in (502, 503), "without the app", answer)
    check(f"127.0.0.1:{pod.ports['app']}" in answer.json()["detail"], "the answer does not say where it looked", answer)
    verbose = ask(pod.ports["admin"], "/readyz?verbose").body.decode()
    check("[!]app" in verbose, verbose)
    pod.start_app()
    until("the app is found without a restart", lambda: pod.get("/api/movies/").status == 200)
    until("it is cached", lambda: pod.get("/api/movies/").headers.get("x-cache") == "HIT")
    say(f"start: {failed} failed startup probes, all probes pass without the app, {answer.status} names its address, then 200")


def swap_the_config(pod):
    """A good file, a broken one, a good one again. Until reloading is built, what is checked is that nothing breaks."""

    def gauge():
        return series(pod.ports["admin"]).get("reprise_config_last_reload_successful")

    def serves(path):
        pod.sidecar.alive()
        return pod.get(path).headers.get("x-cache")

    reloads = gauge() is not None
    for number, (extra, good) in enumerate(
        [(ROUTE.format(name="theaters"), True), ("[[rout]]\n", False), (ROUTE.format(name="events"), True)], 1
    ):
        before = serves("/api/movies/")
        pod.volume.write(pod.text + extra)
        if reloads:
            until(f"swap {number} is noticed", lambda good=good: gauge() == float(good), 30)
            if good:
                path = "/api/theaters/" if number == 1 else "/api/events/"
                until(f"the route of swap {number} is in effect", lambda path=path: serves(path) == "HIT")
        check(serves("/api/movies/") == before == "HIT", f"swap {number} lost what was stored")
        check(pod.manifest.probe("readinessProbe", pod.ports["admin"]), f"not ready after swap {number}")
        check(pod.manifest.probe("livenessProbe", pod.ports["admin"]), f"not alive after swap {number}")
    if reloads:
        say("swap: three, one of them broken: taken over, kept out, taken over; nothing stored was lost")
    else:
        say("swap: three, one of them broken, and the sidecar goes on; it does not reload yet, so nothing more is checked")


class Endpoints:
    """The pods that get traffic, for clients that follow them."""

    def __init__(self, pods):
        self.pods, self.lock = list(pods), threading.Lock()

    def remove(self, pod):
        with self.lock:
            self.pods.remove(pod)

    def pick(self, dice):
        with self.lock:
            return dice.choice(self.pods)

    def has(self, pod):
        with self.lock:
            return pod in self.pods


class Client(threading.Thread):
    """Keeps a connection for each endpoint, as ingress controllers do, and drops it when the endpoint is gone."""

    def __init__(self, number, endpoints, stop):
        super().__init__()
        self.dice, self.endpoints, self.stop = random.Random(number), endpoints, stop
        self.user, self.kept, self.seen = ["alice", "bob", "carol"][number % 3], {}, []

    def run(self):
        while not self.stop.is_set():
            pod = self.endpoints.pick(self.dice)
            showtime = self.dice.randint(61, 119)
            paths = ["/api/movies/", f"/api/movies/{self.dice.randint(1, 30)}/", f"/api/showtimes/{showtime}/availability/"]
            request = (self.dice.choice(paths), "GET", {}, None)
            if self.dice.random() < 0.05:
                request = ("/api/bookings/", "POST", token(self.user), {"showtime": showtime, "seats": 1})
            self.seen.append((time.monotonic(), pod.name, request[1], *self.request(pod, request)))
            for gone in [other for other in self.kept if not self.endpoints.has(other)]:
                self.kept.pop(gone).close()

    def request(self, pod, request):
        """The status, and what went wrong. Nothing is tried again: a connection closed under a request is a failure."""
        connection = self.kept.setdefault(pod, http.client.HTTPConnection("127.0.0.1", pod.ports["traffic"], timeout=20))
        try:
            answer = send(connection, *request)
        except (OSError, http.client.HTTPException) as error:
            self.kept.pop(pod).close()
            return 0, repr(error)
        if answer.headers.get("connection") == "close":
            self.kept.pop(pod).close()
        return answer.status, answer.body[:200] if answer.status >= 400 else b""


def delete_under_load(leaving, staying):
    endpoints, stop = Endpoints([leaving, staying]), threading.Event()
    clients = [Client(number, endpoints, stop) for number in range(LOAD)]
    for client in clients:
        client.start()
    try:
        until("both pods serve", lambda: all({"one", "two"} <= {seen[1] for seen in c.seen} for c in clients))
        deleted = time.monotonic()
        took = leaving.delete(endpoints)
        after = time.monotonic()
        until("load goes on without it", lambda: all(c.seen and c.seen[-1][0] > after + 0.2 for c in clients))
    finally:
        stop.set()
        for client in clients:
            client.join()
    seen = [entry for client in clients for entry in client.seen]
    failed = [entry for entry in seen if entry[3] not in (200, 201, 409)]
    check(not failed, f"{len(failed)} of {len(seen)} requests failed, the first:", failed[:1])
    late = sum(1 for entry in seen if entry[1] == leaving.name and entry[0] > deleted)
    writes = sum(1 for entry in seen if entry[2] == "POST")
    check(late > 0, "nobody asked the pod after it was told to end: the test shows nothing")
    check("stopped" in leaving.sidecar.output().splitlines()[-1], leaving.sidecar.output()[-500:])
    say(
        f"end: {len(seen)} requests, {writes} of them writes, none failed; {late} were answered by the pod after it was told "
        f"to end; {took:.1f} s of {leaving.manifest.grace} s, exit 0"
    )


def main():
    check(os.geteuid() == 0, "needs root: another user, and a mount namespace of its own")
    manifest = Manifest(os.environ["MANIFEST"])
    with folder() as path:
        (path / "shop").mkdir()
        shared = {"redis": free_port(), "path": path / "shop"}
        pods = [Pod(name, manifest, path, shared) for name in ("one", "two")]
        with redis(shared["redis"], path):
            try:
                start_without_the_app(pods[0])
                swap_the_config(pods[0])
                pods[1].start_sidecar()
                pods[1].start_app()
                delete_under_load(*pods)
            finally:
                for pod in pods:
                    if hasattr(pod, "sidecar"):
                        pod.end()


if __name__ == "__main__":
    main()
