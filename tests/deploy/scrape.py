"""A real Prometheus scrapes a real sidecar under load: every expression of the dashboard and the alerts must return data.

In: deploy/prometheus, deploy/grafana, REPRISE_BIN. Out: how many expressions had data; the first without is the end. What
the sidecar does not export yet is named in NOT_YET: an expression that needs it is only parsed, and a series that has come
to be is an error, so that the list can only get shorter.
"""

import json
import random
import re
import subprocess
import threading
import time
import urllib.parse

from dashboard import expressions, plain
from stage import BINARY, ROOT, Process, ask, backend, check, folder, free_port, redis, say, series, shipped, token, until

import yaml

NOT_YET = {
    "reprise_coherence_invalidation_lag_seconds",
    "reprise_config_last_reload_success_timestamp_seconds",
    "reprise_config_last_reload_successful",
    "reprise_log_messages_total",
    "reprise_redis_memory_max_bytes",
    "reprise_redis_memory_used_bytes",
}
APP, TRAFFIC, ADMIN, REDIS, PROMETHEUS = (free_port() for _ in range(5))
LIMIT = 512 << 20
SECONDS = 12
PATHS = ["/api/events/", "/api/movies/", "/api/theaters/", "/api/showtimes/", "/api/movies/search/?q=1"]


def sidecar(path):
    """The shipped file, and a memory limit: where the machine sets none, one is put where the sidecar looks for it."""
    text = shipped(TRAFFIC, ADMIN, REDIS)
    (path / "proxy.toml").write_text(text)
    limited = f"mount -t tmpfs tmpfs /sys/fs/cgroup && echo {LIMIT} > /sys/fs/cgroup/memory.max && exec \"$@\""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", limited, "sh"]
    command += [BINARY, "run", "--config", path / "proxy.toml"]
    env = {"REPRISE_UPSTREAM_URL": f"http://127.0.0.1:{APP}"}
    return Process("sidecar", command, path, env)


def prometheus(path):
    rules = (ROOT / "deploy/prometheus/rules.yaml").read_text()
    (path / "rules.yaml").write_text(rules.replace("interval: 30s", "interval: 1s"))
    target = {"targets": [f"127.0.0.1:{ADMIN}"], "labels": {"pod": "one", "namespace": "test"}}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path / "rules.yaml")],
        "scrape_configs": [{"job_name": "reprise", "static_configs": [target]}],
    }
    (path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = ["prometheus", f"--config.file={path / 'prometheus.yaml'}", f"--storage.tsdb.path={path / 'tsdb'}"]
    return Process("prometheus", [*command, f"--web.listen-address=127.0.0.1:{PROMETHEUS}"], path)


def load(stop, counts):
    """A little of everything: every route, three users, bookings, a page with too many queries."""
    dice = random.Random(len(counts))
    while not stop.is_set():
        user = dice.choice(["alice", "bob", "carol"])
        paths = [dice.choice(PATHS), f"/api/movies/{dice.randint(1, 30)}/", f"/api/events/{dice.randint(1, 40)}/"]
        showtime = dice.randint(61, 119)
        paths += [f"/api/showtimes/{showtime}/availability/", f"/api/showtimes/{showtime}/", "/api/users/me/"]
        paths += ["/api/bookings/", "/api/analytics/", "/api/theaters/1/", "/api/theaters/search/", "/api/events/search/"]
        paths += ["/api/showtimes/search/?movie=1", "/api/events/1/analytics/", "/api/events/?slow=1&page_size=100"]
        for path in paths:
            counts.append(ask(TRAFFIC, path, headers=token(user)).status)
        body = {"showtime": showtime, "seats": 1}
        counts.append(ask(TRAFFIC, "/api/bookings/", "POST", token(user), body).status)


def query(expr):
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expr})
    answer = ask(PROMETHEUS, path).json()
    check(answer["status"] == "success", answer, expr)
    return answer["data"]["result"]


def named(expr):
    names = re.findall(r"\breprise_\w+", expr)
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


def operands(expr):
    """What an alert compares with its threshold, without the threshold: that must have values in good times, too."""
    parts = re.split(r"\s+and\s+", expr.strip())
    return [re.sub(r"\s*(==|[<>]=?)\s*[0-9.]+$", "", part.strip()) for part in parts]


def wanted():
    """Every expression, and where it is from."""
    board = json.loads((ROOT / "deploy/grafana/reprise.json").read_text())
    for title, raw in expressions(board):
        yield f"panel {title!r}", plain(raw, "10s")
    for group in yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            if record := rule.get("record"):
                yield f"rule {record}", record
            else:
                for operand in operands(rule["expr"]):
                    yield f"alert {rule['alert']}", operand


def every_expression_has_data():
    exported = {re.sub(r"_(bucket|count|sum)$", "", name.split("{")[0]) for name in series(ADMIN)}
    arrived = NOT_YET & exported
    check(not arrived, "exported by now, take them off NOT_YET:", sorted(arrived))
    data, later, empty = 0, 0, []
    for where, expr in wanted():
        found = query(expr)
        if named(expr) & NOT_YET:
            later += 1
        elif found:
            data += 1
        else:
            empty.append(f"{where}: {expr}")
    check(not empty, "no data:\n" + "\n".join(empty))
    check(data > 60, f"only {data} expressions")
    say(f"{data} expressions return data; {later} wait for series that are not exported yet: {', '.join(sorted(NOT_YET))}")


def the_numbers_are_right(statuses):
    """What Prometheus has counted is what the clients have seen."""
    counted = sum(value for name, value in series(ADMIN).items() if name.startswith("reprise_http_requests_total"))
    check(counted == len(statuses), f"{counted:.0f} requests counted, {len(statuses)} sent")
    until(
        "Prometheus has the last sample",
        lambda: float(query("sum(reprise_http_requests_total)")[0]["value"][1]) == len(statuses),
    )
    results = float(query("sum(reprise_cache_requests_total)")[0]["value"][1])
    check(results == len(statuses), f"{results:.0f} results for {len(statuses)} requests")
    limit = float(query("reprise_memory_limit_bytes")[0]["value"][1])
    check(limit == LIMIT, "the memory limit is", limit)


def rules_are_healthy():
    groups = ask(PROMETHEUS, "/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    sick = [rule["name"] for rule in rules if rule["health"] != "ok"]
    check(rules and not sick, "rules with errors:", sick)
    say(f"{len(rules)} rules are healthy")


def metrics_are_well_formed():
    text = ask(ADMIN, "/metrics").body
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    check(done.returncode == 0, done.stdout.decode(), done.stderr.decode())
    say(f"promtool check metrics: clean, {len(series(ADMIN))} series")


def main():
    with folder() as path, redis(REDIS, path), backend(APP, path), sidecar(path) as proxy:
        until("the sidecar serves", lambda: proxy.alive() and ask(ADMIN, "/readyz").status == 200)
        with prometheus(path) as server:
            until("Prometheus is ready", lambda: server.alive() and ask(PROMETHEUS, "/-/ready").status == 200, 60)
            stop, statuses = threading.Event(), []
            threads = [threading.Thread(target=load, args=(stop, statuses)) for _ in range(2)]
            for thread in threads:
                thread.start()
            time.sleep(SECONDS)  # long enough for every rate to have two samples; nothing is waited for by it
            stop.set()
            for thread in threads:
                thread.join()
            odd = [status for status in statuses if status not in (200, 201, 409)]
            check(len(statuses) > 200 and not odd, f"{len(statuses)} requests, odd answers: {odd[:9]}")
            say(f"load: {len(statuses)} requests in {SECONDS} s")
            every_expression_has_data()
            the_numbers_are_right(statuses)
            rules_are_healthy()
            metrics_are_well_formed()


if __name__ == "__main__":
    main()
