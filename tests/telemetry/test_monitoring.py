"""The alert rules and the dashboard name metrics and labels that the gateway has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import promql_parser
import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import generate_latest, values
from prometheus_client.parser import text_string_to_metric_families

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.faces.client_name import Client
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.request_context import RequestContext
from contact_gateway.telemetry.metrics import Metrics
from support.documentation import ROOT, blocks_of
from support.faces import Json
from support.programs import skip_or_fail

PAGE = ROOT / "docs" / "monitoring.md"
FOLDER = ROOT / "docs" / "monitoring"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "grafana-dashboard.json"
RULE_TESTS = Path(__file__).with_name("alerts_test.yml")
# Prometheus adds these.
OF_PROMETHEUS = {"up": frozenset[str]()}
TARGET = {"job", "instance"}
OUTCOMES = {*map(str, ErrorCode), *map(str, TransportCode), "CREATED"}


@cache
def _exported() -> Mapping[str, frozenset[str]]:
    """Return the labels of each series that a gateway exports, by its name."""

    async def refuse(_: Credential) -> KeyRefusal:
        return KeyRefusal.UNKNOWN

    before, values.ValueClass = values.ValueClass, values.MutexValue
    metrics = Metrics()
    values.ValueClass = before
    context = RequestContext("id", Caller(None, refuse), client=Client("web", "1.0"))
    metrics.answered(context, 1)
    metrics.batch_started(1)
    metrics.committed(1, 1)
    metrics.failed("unavailable")
    metrics.connections_changed("read", 1)
    metrics.transaction_repeated("lost connection")
    metrics.called("contacts")
    metrics.rows_skipped(1)
    text = generate_latest(metrics._registry).decode()  # noqa: SLF001 - served by a request only
    return {
        sample.name: frozenset(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    } | OF_PROMETHEUS


def _dashboard() -> dict[str, Json]:
    content: dict[str, Json] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def _alert_expressions() -> list[str]:
    """Return the expressions of the rules. promtool checks that the file is valid."""
    found = re.findall(
        r"^ +expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", ALERTS.read_text("utf-8"), re.MULTILINE
    )
    return [block or line for block, line in found]


def _targets() -> list[tuple[str, str]]:
    """Return the expressions of the dashboard's panels, and their legends."""
    return [
        (re.sub(r"\$__(rate_interval|range)", "5m", target["expr"]), target["legendFormat"])
        for panel in _dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def _nodes(expression: str) -> list[promql_parser.Expr]:
    nodes: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expression), nodes.append)
    return nodes


def _selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    for node in _nodes(expression):
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            yield selector


def _groupings(expression: str) -> Iterator[Sequence[str]]:
    for node in _nodes(expression):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            yield node.modifier.labels


EXPRESSIONS = [*_alert_expressions(), *(expression for expression, _ in _targets())]


def test_every_expression_is_found() -> None:
    assert len(_alert_expressions()) == ALERTS.read_text(encoding="utf-8").count("- alert: ") == 11
    assert len(_targets()) == DASHBOARD.read_text(encoding="utf-8").count('"expr"') >= 20


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_names_metrics_and_labels_of_the_gateway(expression: str) -> None:
    selectors = list(_selectors(expression))
    labels = set(TARGET)
    for selector in selectors:
        own = _exported()[selector.name or ""] | TARGET
        labels |= own
        for matcher in selector.matchers.matchers:
            assert matcher.name in own
            if matcher.name == "outcome":
                assert set(matcher.value.split("|")) <= OUTCOMES

    assert selectors
    for grouping in _groupings(expression):
        assert set(grouping) <= labels


@pytest.mark.parametrize(("expression", "legend"), _targets())
def test_every_legend_names_labels_that_are_left(expression: str, legend: str) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", legend))
    left = {label for grouping in _groupings(expression) for label in grouping}

    assert named <= left


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {selector.name for expression, _ in _targets() for selector in _selectors(expression)}
    kinds = re.compile(r"_(total|bucket|sum|count|created)$")
    families = {kinds.sub("", name) for name in _exported()}

    assert {kinds.sub("", name or "") for name in shown} == families


def test_the_dashboard_has_no_names_that_grafana_does_not_know() -> None:
    """What the types of Grafana's schema do not have is lost on the way through them."""
    plugins.register_default_plugins()
    read = JSONEncoder().encode(Dashboard.from_json(_dashboard()))

    assert set(_leaves(_dashboard())) <= set(_leaves(json.loads(read)))


def _leaves(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each value that is not an object or a list."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in pairs:
        if isinstance(inner, (dict, list)):
            yield from _leaves(inner, f"{path}/{name}")
        else:
            yield f"{path}/{name}", repr(inner)


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in _dashboard()["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    ids = [panel["id"] for panel in _dashboard()["panels"]]

    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))
    assert len(ids) == len(set(ids))


def test_the_page_lists_the_alerts_with_their_severities() -> None:
    rules = re.findall(
        r"- alert: (\w+)\n(?:.*\n)*?\s+severity: (\w+)\n", ALERTS.read_text(encoding="utf-8")
    )
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert sorted(listed) == sorted(rules)


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        skip_or_fail("promtool is not installed")
    return path


def _check(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_configuration_of_prometheus_is_valid(promtool: str, tmp_path: Path) -> None:
    (block,) = (block for block in blocks_of(PAGE) if block.language == "yaml")
    (tmp_path / block.notes["file"]).write_text(block.text, encoding="utf-8")
    shutil.copy(ALERTS, tmp_path)

    _check(promtool, "check", "config", tmp_path / block.notes["file"])


def test_the_alerts_fire_on_their_events_and_on_nothing_else(promtool: str) -> None:
    _check(promtool, "test", "rules", RULE_TESTS)


def test_a_new_series_is_an_unknown_outcome(promtool: str, tmp_path: Path) -> None:
    (expression,) = (
        target["expr"].replace("$__range", "3h").replace("$job", ".*").replace("$instance", ".*")
        for panel in _dashboard()["panels"]
        if panel["title"] == "Unknown outcomes"
        for target in panel["targets"]
    )
    series = 'contact_gateway_requests_total{job="a", instance="b", outcome="OUTCOME_UNKNOWN"}'
    after = {"10m": 0, "60m": 1, "5h": 0}
    rules = {
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": "_x20 1x400"}],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": time,
                        "exp_samples": [{"labels": "{}", "value": value}],
                    }
                    for time, value in after.items()
                ],
            }
        ]
    }
    file = tmp_path / "dashboard_test.yml"
    # JSON is YAML.
    file.write_text(json.dumps(rules), encoding="utf-8")

    _check(promtool, "test", "rules", file)
