"""Checks rendered overlays for what no schema says: the sidecar's place, probes, privileges, drain order, ports, names.

In: rendered files, each named after its overlay. Out: the first promise that is broken. Custom resources are checked against
the Prometheus Operator's own types, and for keys that those do not know.
"""

import re
import sys
from pathlib import Path

from cloudcoil.models.prometheus_operator import v1
from stage import ROOT, check, say

import tomllib
import yaml

from dashboard import keys


def custom_resource(document):
    model = getattr(v1, document["kind"]).model_validate(document)
    known = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
    unknown = sorted(set(keys(document)) - set(keys(known)))
    check(not unknown, document["kind"], "does not know", unknown)


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def sidecar(where, documents):
    by_kind = {document["kind"]: document for document in documents}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    found = [container for container in pod["initContainers"] if container["name"] == "reprise"]
    check(len(found) == 1, where, "sidecars:", len(found))
    container = found[0]
    check(container["restartPolicy"] == "Always", where, "the sidecar is not a native one")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    check(ports == {"proxy-http": 8080, "proxy-admin": 9090}, where, ports)
    service = by_kind["Service"]["spec"]["ports"][0]
    check(service["targetPort"] == "proxy-http", where, "the Service goes past the sidecar")
    for probe in ("startupProbe", "livenessProbe"):
        check(container[probe]["httpGet"] == {"path": "/livez", "port": "proxy-admin"}, where, probe)
    check(container["readinessProbe"]["httpGet"]["path"] == "/readyz", where, "readinessProbe")
    security = container["securityContext"]
    check(security["runAsNonRoot"] and security["runAsUser"] == 65532 and security["readOnlyRootFilesystem"], where, security)
    check(security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]}, where, security)
    check(security["seccompProfile"] == {"type": "RuntimeDefault"}, where, security)
    check("memory" in container["resources"]["limits"], where, "no memory limit")
    check(re.search(r":[0-9]|@sha256:", container["image"]), where, "an image without a version:", container["image"])
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "reprise-config"]
    check(mounts[0]["mountPath"] == "/etc/reprise" and mounts[0]["readOnly"], where, mounts)
    check(all("subPath" not in mount for mount in mounts), where, "a subPath never sees a change")
    return by_kind, pod, container


def configuration(where, by_kind, pod):
    name = by_kind["ConfigMap"]["metadata"]["name"]
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "reprise-config")
    check(volume["configMap"]["name"] == name, where, "the pod mounts another ConfigMap than", name)
    hashed = name != "reprise-config"
    check(hashed == (where == "rollout"), where, "ConfigMap", name)
    return tomllib.loads(by_kind["ConfigMap"]["data"]["proxy.toml"])


def drain(where, pod, config):
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    own = seconds(config.get("server", {}).get("drain_timeout", "20s"))
    grace = pod["terminationGracePeriodSeconds"]
    check(sleep >= 2, where, "the app sleeps for", sleep, "s before it ends")
    check(sleep + 10 + own < grace, where, f"{sleep} s + 10 s for the app + {own} s do not fit into {grace} s")


def secrets(where, container, config):
    given = {variable["name"] for variable in container.get("env", [])}
    wanted = {config["redis"]["password_env"]} if "password_env" in config.get("redis", {}) else set()
    check(wanted <= given, where, "nobody sets", wanted - given)
    values = [variable for variable in container.get("env", []) if "value" in variable]
    check(not values, where, "a secret in the manifest:", values)


def monitoring(documents):
    rule = next(document for document in documents if document["kind"] == "PrometheusRule")
    monitor = next(document for document in documents if document["kind"] == "PodMonitor")
    check(monitor["spec"]["podMetricsEndpoints"][0]["port"] == "proxy-admin", "PodMonitor", monitor["spec"])
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    check(rule["spec"] == shipped, "the PrometheusRule is not what deploy/prometheus/rules.yaml says")


def runbook():
    """Each alert has a section of its name, and a test that it fires and one that it does not."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    text = (ROOT / "deploy/README.md").read_text()
    sections = {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"(?m)^#+ (.*)$", text)}
    tests = yaml.safe_load((ROOT / "deploy/prometheus/tests.yaml").read_text())["tests"]
    expected = [test for group in tests for test in group.get("alert_rule_test", [])]
    for alert in alerts:
        name, link = alert["alert"], alert["annotations"]["runbook_url"]
        check(link == f"deploy/README.md#{name.lower()}", name, "links to", link)
        check(name.lower() in sections, name, "has no section in deploy/README.md")
        fires = {bool(test["exp_alerts"]) for test in expected if test["alertname"] == name}
        check(fires == {True, False}, name, "is not tested to fire and to be silent")
    return len(alerts)


def main(paths):
    for path in map(Path, paths):
        where = path.stem
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
        for document in documents:
            if document["apiVersion"].startswith("monitoring.coreos.com"):
                custom_resource(document)
        by_kind, pod, container = sidecar(where, documents)
        config = configuration(where, by_kind, pod)
        drain(where, pod, config)
        secrets(where, container, config)
        if where == "production":
            monitoring(documents)
        say(f"{where}: {', '.join(document['kind'] for document in documents)}")
    say(f"{runbook()} alerts have their sections and their tests")


if __name__ == "__main__":
    main(sys.argv[1:])
