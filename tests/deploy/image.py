"""Builds the image from a static binary, without an engine and without a registry, looks at it, and runs what is in it.

In: REPRISE_STATIC, a statically linked binary. What it promises is checked from outside: nothing in the image but the
binary and the authorities, uid 65532, an empty root that cannot be written to, no capabilities; and that a static binary
finds the app by a name that only DNS knows.
"""

import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import threading
from pathlib import Path

from stage import ROOT, Process, ask, check, folder, free_port, say, until

NAMESERVER, NAME = "127.0.0.153", "app.reprise.test"


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    check(done.returncode == 0, " ".join(map(str, command)), "\n", done.stdout, done.stderr)
    return done.stdout.strip()


def build(static, path):
    """The image as an OCI archive, and its root file system as a folder."""
    context, root = path / "context", path / "root"
    context.mkdir()
    shutil.copy(static, context / "reprise")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", context)
    shutil.copy(ROOT / "deploy/Dockerfile.dockerignore", context / ".dockerignore")
    (context / "leftover").write_text("what lies about must not get into the image\n")
    buildah = ["buildah", "--storage-driver", "vfs", "--root", path / "storage", "--runroot", path / "runroot"]
    dockerfile = ROOT / "deploy/Dockerfile"
    run(*buildah, "bud", "--isolation", "chroot", "--target", "prebuilt", "-f", dockerfile, "-t", "reprise", context)
    run(*buildah, "push", "reprise", f"oci-archive:{path / 'reprise.tar'}:reprise")
    container = run(*buildah, "from", "reprise")
    shutil.copytree(run(*buildah, "mount", container), root, symlinks=True)
    run(*buildah, "rm", container)
    root.chmod(0o555)
    return path / "reprise.tar", root


def look_at(archive, root):
    config = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{archive}"))["config"]
    check(config["User"] == "65532:65532", "the image's user is", config["User"])
    check(config["Entrypoint"] == ["/reprise"] and config["Cmd"] == ["run"], config)
    check(set(config["ExposedPorts"]) == {"8080/tcp", "9090/tcp"}, config["ExposedPorts"])
    files = {str(file.relative_to(root)) for file in root.rglob("*") if not file.is_dir()}
    check(files == {"reprise", "etc/ssl/certs/ca-certificates.crt"}, "in the image:", sorted(files))
    mode = (root / "reprise").stat().st_mode
    check(stat.S_IMODE(mode) == 0o555, f"the binary's mode is {mode:o}")
    headers = run("readelf", "--program-headers", root / "reprise")
    check("INTERP" not in headers, "the binary wants a dynamic loader")
    size = archive.stat().st_size / 1e6
    say(f"image: {size:.1f} MB, files: {', '.join(sorted(files))}; user {config['User']}")


def nameserver(stop):
    """Says 127.0.0.1 to every question for an IPv4 address, and nothing to the others."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((NAMESERVER, 53))
    server.settimeout(0.2)
    asked = []

    def answer():
        while not stop.is_set():
            try:
                question, peer = server.recvfrom(512)
            except TimeoutError:
                continue
            end = question.index(b"\0", 12) + 5
            name, kind = question[12 : end - 4], struct.unpack("!H", question[end - 4 : end - 2])[0]
            asked.append(name)
            found = kind == 1
            reply = question[:2] + struct.pack("!HHHHH", 0x8580, 1, int(found), 0, 0) + question[12:end]
            if found:
                reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
            server.sendto(reply, peer)

    threading.Thread(target=answer, daemon=True).start()
    return asked


def serve(root, path):
    """Runs what is in the image as a container would: its root, its user, nothing writable, no capabilities."""
    app, traffic, admin = free_port(), free_port(), free_port()
    config = root / "etc/reprise"
    config.mkdir()
    (config / "proxy.toml").write_text(
        f'[server]\nlisten = "127.0.0.1:{traffic}"\n[admin]\nlisten = "127.0.0.1:{admin}"\n'
        f'[upstream]\nurl = "http://{NAME}:{app}"\n[[route]]\nname = "all"\nmatch = "/**"\nttl = "1m"\nscope = "shared"\n'
    )
    # Kubernetes and its runtime put these into every container.
    (root / "etc/resolv.conf").write_text(f"nameserver {NAMESERVER}\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "proc").mkdir()
    (root / "dev").mkdir()
    page = path / "page"
    page.mkdir()
    (page / "hello").write_text("hello\n")
    server = ["python3", "-m", "http.server", app, "--bind", "127.0.0.1", "--directory", page]
    script = f"""mount --bind '{root}' '{root}' && mount -t proc proc '{root}/proc' && mount --rbind /dev '{root}/dev' &&
        mount -o remount,bind,ro '{root}' && exec chroot --userspec=65532:65532 --groups= '{root}' /reprise run"""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    stop = threading.Event()
    asked = nameserver(stop)
    env = {"REPRISE_CONFIG": "/etc/reprise/proxy.toml"}
    with Process("static-app", server, path), Process("image", command, path, env) as image:
        until("the image serves", lambda: image.alive() and ask(admin, "/livez").status == 200)
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{image.pid}/status").read_text().splitlines() if ":\t" in line
        )
        check(status["Uid"].split() == ["65532"] * 4, "uid", status["Uid"])
        check(int(status["CapEff"], 16) == 0, "capabilities", status["CapEff"])
        mounts = [line.split() for line in Path(f"/proc/{image.pid}/mountinfo").read_text().splitlines()]
        check(any(mount[4] == "/" and "ro" in mount[5].split(",") for mount in mounts), "its root can be written to")
        until("the app listens", lambda: ask(app, "/hello").status == 200)
        first, second = ask(traffic, "/hello"), ask(traffic, "/hello")
        check((first.status, first.body) == (200, b"hello\n"), first, image.output())
        check(second.headers.get("x-cache") == "HIT", second)
        check(any(b"reprise" in name for name in asked), "nobody asked the name server")
        image.signal()
        check(image.wait(30) == 0, "exit code", image.process.returncode)
    stop.set()
    say(f"run: uid {status['Uid'].split()[0]}, no capabilities, read-only root, {NAME} found by DNS, HIT, exit 0")


if __name__ == "__main__":
    check(os.geteuid() == 0, "needs root: a chroot, and a mount namespace of its own")
    with folder() as path:
        archive, root = build(Path(os.environ["REPRISE_STATIC"]), path)
        look_at(archive, root)
        serve(root, path)
