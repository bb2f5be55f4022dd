"""Checks a Grafana dashboard: keys that Grafana does not know, panels without a title, a description or a unit, PromQL that
does not parse, counters without rate().

In: paths of dashboards. Out: a line for each defect, and exit code 1 if there is one. Grafana's own types say what it
knows: what they do not write again, they did not understand.
"""

import json
import re
import sys

import promql_parser
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()


def keys(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from keys(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from keys(inner, f"{path}[{index}]")


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def plain(expr, interval="5m"):
    """An expression as Prometheus would get it, with "All" in every variable."""
    expr = re.sub(r"\$__(rate_interval|interval|range)", interval, expr)
    return re.sub(r"\$\{?\w+\}?", ".*", expr)


def expressions(dashboard):
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield panel.get("title", f"panel {panel['id']}"), target["expr"]


def defects(dashboard):
    understood = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    for key in sorted(set(keys(dashboard)) - set(keys(understood))):
        yield f"a key that Grafana does not know: {key}"
    ids = [panel["id"] for panel in panels(dashboard)]
    if len(ids) != len(set(ids)):
        yield "two panels with one id"
    for panel in panels(dashboard):
        where = panel.get("title") or f"panel {panel['id']}"
        wanted = {"title": panel.get("title")}
        if panel["type"] != "row":
            wanted["description"] = panel.get("description")
            wanted["unit"] = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
            wanted["query"] = panel.get("targets")
        for name, value in wanted.items():
            if not value:
                yield f"{where}: no {name}"
    for where, raw in expressions(dashboard):
        expr = plain(raw)
        try:
            promql_parser.parse(expr)
        except ValueError as error:
            yield f"{where}: {error}: {raw}"
        if re.search(r"_total\b", expr) and not re.search(r"\b(i?rate|increase)\(", expr):
            yield f"{where}: a counter without rate(): {raw}"
        if re.search(r"\brate\([^[]*\[(?!\$__rate_interval)", raw):
            yield f"{where}: rate() over another window than $__rate_interval: {raw}"


if __name__ == "__main__":
    found = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for defect in defects(json.load(file)):
                found = 1
                print(f"{path}: {defect}")
    sys.exit(found)
