#!/usr/bin/env python3
"""The PrometheusRule of deploy/kustomize, from deploy/prometheus/rules.yaml: `--write` it, or check that it is the same.

In: the rules file. Out: one custom resource. Nothing is parsed: the text is moved in by two spaces, comments and all.
"""

import sys
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus/rules.yaml"
RESOURCE = DEPLOY / "kustomize/components/monitoring/prometheusrule.yaml"
HEAD = """\
# Written by tests/deploy/prometheus_rule.py from deploy/prometheus/rules.yaml: edit that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: reprise
  labels:
    app.kubernetes.io/name: reprise # add the label that your Prometheus selects rules by
spec:
"""


def resource():
    groups = RULES.read_text().split("\ngroups:\n")[1]
    lines = ["groups:", *groups.splitlines()]
    return HEAD + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if sys.argv[1:] == ["--write"]:
    RESOURCE.write_text(resource())
elif RESOURCE.read_text() != resource():
    sys.exit(f"{RESOURCE.name} is not what rules.yaml says: run tests/deploy/prometheus_rule.py --write")
