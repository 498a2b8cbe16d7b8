"""The notes after an installation say how to read prices."""

import json
import re

from bridge.cli.app import app
from tests.support.helm import CHART, render

NOTES = (CHART / "templates" / "NOTES.txt").read_text()


def notes(**values: object) -> str:
    """Render the notes as an extra object, because Helm prints notes only with a cluster."""
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n"
    text = f"{head}data: {{notes: {{{{ tpl {json.dumps(NOTES)} . | toJson }}}}}}"
    found = render({"extraObjects": [text], **values}).of_kind("ConfigMap")
    (said,) = (o["data"]["notes"] for o in found if o["metadata"]["name"] == "notes")
    assert isinstance(said, str)
    return said


def test_the_notes_say_how_to_look_prices_up() -> None:
    said = notes()
    assert "kubectl -n default exec deployment/ticks-tickbridge -- tickbridge price\n" in said
    assert "helm -n default test ticks\n" in said
    assert "HGET binance.spot.prices BTCUSDT" in said
    assert "binance.spot.latest:BTCUSDT" in said


def test_every_command_in_the_notes_is_one() -> None:
    known = {command.name for command in app.registered_commands}
    assert set(re.findall(r"-- tickbridge (\w+)", notes())) <= known


def test_the_notes_say_how_to_see_the_dashboard_unless_it_is_off() -> None:
    port = {"http": {"port": 9000}}
    assert "port-forward deployment/ticks-tickbridge 8080:9000\n\nIn a program" in notes(
        settings=port
    )
    assert "port-forward" not in notes(settings={"http": {"dashboard": False}})


def test_the_notes_of_a_group_ask_for_all_bridges() -> None:
    said = notes(replicas=2, settings={"cluster": {"standby": 1}})
    assert "rollout status statefulset/ticks-tickbridge\n" in said
    assert "exec statefulset/ticks-tickbridge -- tickbridge status --cluster\n" in said
