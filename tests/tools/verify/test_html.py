"""The page of a verification: complete, self-contained, and safe against names from outside."""

from html.parser import HTMLParser

import msgspec
import pytest

from bridge.tools.verify.html import page, plots
from bridge.tools.verify.report import Check, Latency, Moment, Problem, Report
from tests.support.verification import good, stream

HOSTILE = "<script>alert(1)</script>"


def report(**changes: object) -> Report:
    seen = msgspec.structs.replace(good(), **changes)
    return Report(
        version="1.2.3",
        verdict="ok",
        checks=[Check("order", passed=True, text="fine")],
        observation=seen,
    )


class Elements(HTMLParser):
    """Collects the elements and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_asks_for_nothing_from_outside() -> None:
    elements = Elements(page(report()))
    assert not {"script", "link", "img", "iframe"} & set(elements.tags)
    assert not {"src", "href", "onload"} & {name for name, _ in elements.attributes}
    policies = [value for name, value in elements.attributes if name == "content"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policies


def test_names_from_outside_are_text() -> None:
    messages = msgspec.structs.replace(
        good().messages, problems=[Problem(HOSTILE, HOSTILE, 1, HOSTILE)]
    )
    html = page(report(messages=messages, streams=[stream(HOSTILE)]))
    assert "script" not in Elements(html).tags
    assert html.count("&lt;script&gt;") >= 4


def test_the_verdict_names_what_failed() -> None:
    failed = report()
    failed.checks.append(Check("no_pong", passed=False, text="nothing", is_provoked=True))
    assert "NOT VERIFIED: no pong" in page(failed)
    assert "VERIFIED: all 1 checks" in page(report())


def test_each_plot_stays_in_its_frame_and_leaves_out_what_is_unknown() -> None:
    known = Latency(10.0, 11.0, 20.0, 21.0)
    moments = [Moment(at_s=s, length_s=1, events=s, latency=known if s else None) for s in range(6)]
    rate, latencies = plots(moments)
    assert rate.highest == "4/s"
    assert rate.lines[0].points.split()[0] == "0.0,160.0"
    assert rate.lines[0].points.split()[-1] == "640.0,0.0"
    assert [len(line.points.split()) for line in latencies.lines] == [4, 4]
    assert latencies.highest == "20 ms"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_line_needs_two_moments_that_have_ended(count: int) -> None:
    moments = [Moment(at_s=0, length_s=1, events=1, latency=None)] * count
    assert plots(moments) == []
    assert "polyline points" not in page(report(moments=moments))


def test_a_feed_without_events_has_a_page() -> None:
    moments = [Moment(at_s=s, length_s=1, events=0, latency=None) for s in range(4)]
    (rate,) = plots(moments)
    assert rate.lines[0].points == "0.0,160.0 320.0,160.0 640.0,160.0"
    assert "NOT VERIFIED" not in page(report(moments=moments))
