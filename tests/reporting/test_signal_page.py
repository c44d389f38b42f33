"""The page of a signal, in a real browser: what it shows, and what pointing, clicking and typing do."""

import math
import re
from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect
from torch import nn

from autoinit import plan
from autoinit.signal import SignalRow, propagate
from tests.shared.pages import document_of, without_layout
from tests.shared.signal_reports import chain, layer, report, stream

NASTY = "<img src=x onerror=alert(1)>&amp;'\"</script><b>"


@pytest.fixture(scope="module")
def network():
    """A small convolutional network, its plan, and a page of its signal before and after."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    made = plan(model, (2, 3, 8, 8))
    before = propagate(model, (2, 3, 8, 8))
    after = propagate(made, (2, 3, 8, 8), model=model)
    return before, after, made, before.to_html(beside=[after], labels=["before", "after"], plan=made)


def names(page):
    return page.locator("#layers tbody th").all_inner_texts()


def column(page, title, under=""):
    """The texts of a column of the table."""
    heads = [tuple(text.split("\n")) for text in page.locator("#layers thead th").all_inner_texts()]
    wanted = (under, title) if under else (title,)
    at = heads.index(wanted)
    return page.locator(f"#layers tbody tr:not(.details) > :nth-child({at + 1})").all_inner_texts()


def head(page, title, under=""):
    return page.locator("#layers thead th", has_text=re.compile(f"^{re.escape(under + title)}$"))


def three():
    return report(
        layer("a", 1, SignalRow(0.5, s=0.25, mean=0.125, grad=4)),
        layer("b", 2, SignalRow(300, s=30, grad=None)),
        stream("add", 2, SignalRow(2, grad=1)),
        layer("c", 3, SignalRow(1.5, s=math.nan, grad=0)),
        outputs=[SignalRow(1.5)],
        notes=["the first note"],
    )


def test_what_it_says(opened):
    page = opened(three().to_html())
    expect(page).to_have_title("Signal of Net")
    expect(page.locator("h1")).to_have_text("Net")
    assert page.locator("#about div").all_inner_texts() == ["weight layers\n3", "operations\n4"]
    assert page.locator("#totals tbody tr").all_inner_texts() == [
        "layers with q in [1/2, 2]\t2 of 3 (67%)",
        "inputs look alike from\tnowhere",
        "q of the output\t1.5",
        "log10 max/min of grad\t0.00; none at all in 1 layer",
        "time\t250 ms",
    ]
    expect(page.locator("#notes li")).to_have_text(["the first note"])
    assert names(page) == ["a", "b", "c"]
    assert column(page, "q", "predicted") == ["0.5", "300", "1.5"]
    assert column(page, "s/q", "predicted") == ["0.500", "0.100", "nan"]
    assert column(page, "grad", "predicted") == ["4", "–", "0"]
    marks = page.locator("#layers td:nth-child(3)").evaluate_all("cells => cells.map((cell) => cell.className)")
    assert marks == ["number good", "number bad", "number good"]


def test_the_plot_has_a_line_for_branches_and_one_for_sums(opened):
    page = opened(three().to_html())
    forward, backward = page.locator("svg.panel").all()
    expect(forward.locator("path.line:not(.stream)")).to_have_count(1)
    expect(forward.locator("path.line.stream")).to_have_count(1)
    expect(forward.locator("rect.band")).to_have_count(1)
    expect(backward.locator("rect.band")).to_have_count(0)
    expect(forward.locator("circle.dot")).to_have_count(4)
    expect(backward.locator("circle.dot")).to_have_count(2)  # a and the sum; b is not known
    expect(backward.locator("path.edge")).to_have_count(1)  # c is zero


def test_places_stand_where_they_should_on_a_log_axis(opened):
    page = opened(chain((1, 1), (10, 1), (100, 1)).to_html())
    dots = page.locator("svg.panel >> nth=0").locator("circle.dot").all()
    (x1, y1), (x2, y2), (x3, y3) = [(float(dot.get_attribute("cx")), float(dot.get_attribute("cy"))) for dot in dots]
    assert x2 - x1 == pytest.approx(x3 - x2)
    assert y1 - y2 == pytest.approx(y2 - y3)
    assert y1 > y2


def test_hovering_tells_a_place(opened):
    page = opened(three().to_html())
    box = page.locator("svg.panel >> nth=0").locator("circle.dot >> nth=0").bounding_box()
    tip = page.locator("#tip")
    expect(tip).to_be_hidden()
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    expect(tip).to_be_visible()
    assert tip.inner_text().split("\n") == [
        "a", "linear, depth 1; predicted", "q = 0.5", "s = 0.25", "mean = 0.125", "grad = 4",
    ]  # fmt: skip
    page.mouse.move(5, 5)
    expect(tip).to_be_hidden()


def test_the_tip_of_a_sum_says_where_it_is(opened):
    page = opened(three().to_html())
    page.get_by_role("button", name="pre-activations").click()
    box = page.locator("svg.panel >> nth=0").locator("circle.dot").bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    expect(page.locator("#tip b")).to_have_text("add in block")


def test_arrow_keys_go_from_place_to_place(opened):
    page = opened(chain((1, 1), (2, 1), (4, 1)).to_html())
    page.locator("svg.panel >> nth=0").focus()
    told = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        told.append(page.locator("#tip b").inner_text())
    assert told == ["0", "1", "2", "2", "1"]
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()


def test_a_click_on_a_place_finds_its_row(opened):
    layers = [layer(f"layer{at}", at + 1, SignalRow(1.0)) for at in range(200)]
    page = opened(report(*layers).to_html())
    page.locator("#search").fill("layer19")
    box = page.locator("svg.panel >> nth=0").locator("circle.dot >> nth=100").bounding_box()
    page.mouse.click(box["x"] + 1, box["y"] + 1)
    row = page.locator("#layers tr.found")
    expect(row.locator("th")).to_have_text("layer100")
    expect(row).to_be_in_viewport()
    expect(row.locator(".expand")).to_have_attribute("aria-expanded", "true")
    assert len(names(page)) == 200


@pytest.mark.parametrize(
    ("title", "under", "rising", "falling"),
    [
        ("layer", "", ["a2", "a10", "b", "c"], ["c", "b", "a10", "a2"]),
        ("q", "predicted", ["b", "a10", "a2", "c"], ["c", "a2", "a10", "b"]),
        ("grad", "predicted", ["a10", "c", "b", "a2"], ["c", "a10", "b", "a2"]),  # unknown ones last, in order of call
    ],
)
def test_sorting(opened, title, under, rising, falling):
    page = opened(
        report(
            layer("b", 1, SignalRow(1e-9)),
            layer("a10", 2, SignalRow(2e-9, grad=1)),
            layer("a2", 3, SignalRow(100)),
            layer("c", 4, SignalRow(math.inf, grad=2)),
        ).to_html()
    )
    button = head(page, title, under).get_by_role("button")
    for order, state in ((rising, "ascending"), (falling, "descending"), (["b", "a10", "a2", "c"], "none")):
        button.click()
        assert names(page) == order
        expect(head(page, title, under)).to_have_attribute("aria-sort", state)


def test_sorting_by_another_column_ends_the_first(opened):
    page = opened(three().to_html())
    head(page, "layer").get_by_role("button").click()
    head(page, "q", "predicted").get_by_role("button").click()
    assert page.locator("#layers th[aria-sort=ascending]").count() == 1
    assert names(page) == ["a", "c", "b"]


def test_searching(opened, network):
    page = opened(network[3])
    expect(page.locator("#count")).to_have_text("3 of 3 layers")
    for typed, found in (
        ("conv", ["0", "2"]),
        ("GELU", ["2"]),
        ("conv relu", ["0"]),
        ("nothing", []),
        ("", ["0", "2", "6"]),
    ):
        page.locator("#search").fill(typed)
        assert names(page) == found
        expect(page.locator("#count")).to_have_text(f"{len(found)} of 3 layers")


def test_expanding_shows_the_evidence(opened, network):
    _, _, made, text = network
    page = opened(text)
    button = page.get_by_role("button", name="Evidence of 2")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    terms = page.locator(".details dt").all_inner_texts()
    told = dict(zip(terms, page.locator(".details dd").all_inner_texts(), strict=True))
    assert (told["feeds"], told["by way of"], told["status"]) == ("gelu", "3", "planned")
    assert told["since"].startswith("Here gelu bends the signal")
    assert told["std"] == f"{made['2'].std:.3g} = He, gain 1.53, fan 72"
    assert told["before, predicted"].startswith("q 0.")
    head(page, "layer").get_by_role("button").click()
    expect(page.locator(".details")).to_have_count(1)  # it stays with its row
    assert page.locator("#layers tbody tr >> nth=2").get_attribute("class") == "details"
    button.click()
    expect(page.locator(".details")).to_have_count(0)


def test_parts_and_alternatives_of_a_plan_are_evidence(opened):
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.parted, self.mixed = nn.Linear(8, 16), nn.Linear(8, 8)

        def forward(self, x):
            one, other = self.parted(x).chunk(2, -1)
            mixed = self.mixed(torch.tanh(one) * torch.sigmoid(other))
            return torch.relu(mixed), torch.tanh(mixed)

    model = Fork()
    page = opened(propagate(model, (4, 8)).to_html(plan=plan(model, (4, 8))))
    page.get_by_role("button", name="Evidence of parted").click()
    told = page.locator(".details").inner_text()
    assert "rows [0:8]" in told
    assert "rows [8:16]" in told
    page.get_by_role("button", name="Evidence of parted").click()
    page.get_by_role("button", name="Evidence of mixed").click()
    assert page.locator(".details dt", has_text="also feeds").count() == 2


def test_before_and_after_are_turned_off_and_on(opened, network):
    before, after, _, text = network
    page = opened(text)
    forward = page.locator("svg.panel >> nth=0")
    assert sorted(forward.locator("text.end").all_text_contents()) == ["after", "before"]
    expect(forward.locator("path.line")).to_have_count(2)
    shown = [f"{row.q:.3g}" for row in before.values()], [f"{row.q:.3g}" for row in after.values()]
    assert ([f"{float(q):.3g}" for q in column(page, "q", "before, predicted")]) == shown[0]
    assert ([f"{float(q):.3g}" for q in column(page, "q", "after, predicted")]) == shown[1]
    toggle = page.get_by_role("button", name="before", exact=True)
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    expect(forward.locator("path.line")).to_have_count(1)
    expect(head(page, "q", "before, predicted")).to_be_hidden()
    expect(head(page, "q", "after, predicted")).to_be_visible()
    toggle.click()
    expect(forward.locator("path.line")).to_have_count(2)
    expect(head(page, "q", "before, predicted")).to_be_visible()


def test_measured_points_beside_a_predicted_line(opened):
    page = opened(three().to_html(beside=[report(*three().operations, kind="measured")]))
    forward = page.locator("svg.panel >> nth=0")
    expect(forward.locator("circle.point")).to_have_count(3)
    expect(forward.locator("path.point.stream")).to_have_count(1)
    page.get_by_role("button", name="measured", exact=True).click()
    expect(forward.locator(".point")).to_have_count(0)
    page.get_by_role("button", name="sums of the residual stream").click()
    expect(forward.locator("path.line")).to_have_count(1)


def test_nothing_in_a_name_is_markup(opened):
    nasty = report(
        layer(NASTY, 1, SignalRow(1.0), note=NASTY), model=NASTY, notes=[NASTY], outputs=[SignalRow(1.0)]
    )  # fmt: skip
    page = opened(nasty.to_html(beside=[nasty], labels=[NASTY, f"{NASTY}2"]))
    expect(page).to_have_title(f"Signal of {NASTY}")
    expect(page.locator("h1")).to_have_text(NASTY)
    expect(page.locator("#notes li")).to_have_text([NASTY])
    assert names(page) == [NASTY]
    page.locator(".expand").click()
    assert NASTY in page.locator(".details dd").all_inner_texts()
    page.locator("svg.panel >> nth=0").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip b")).to_have_text(NASTY)
    assert page.locator("img").count() == 0
    assert page.locator("main b").count() == 0


def test_two_thousand_layers(opened):
    layers = [layer(f"blocks.{at}.fc", at + 1, SignalRow(1 + at / 2000, grad=1.0)) for at in range(2000)]
    page = opened(report(*layers).to_html())
    expect(page.locator("#count")).to_have_text("2000 of 2000 layers")
    head(page, "q", "predicted").get_by_role("button").dblclick()
    assert names(page)[:2] == ["blocks.1999.fc", "blocks.1998.fc"]
    page.locator("#search").fill("blocks.77")
    expect(page.locator("#count")).to_have_text("11 of 2000 layers")


def test_a_model_without_layers(opened):
    page = opened(report().to_html())
    expect(page.locator("#count")).to_have_text("0 of 0 layers")


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(opened, network, scheme):
    page = opened(network[3])
    page.emulate_media(color_scheme=scheme)
    style = "each => { const made = getComputedStyle(each); return [made.color, made.fill]; }"
    ground = luminance(page.locator("body").evaluate("each => getComputedStyle(each).backgroundColor"))
    assert (ground > 0.5) == (scheme == "light")
    for text in ("h1", ".hint >> nth=0", "#layers tbody th >> nth=0", "#layers td.off, #layers td.good >> nth=0"):
        colour = luminance(page.locator(text).first.evaluate(style)[0])
        assert (max(ground, colour) + 0.05) / (min(ground, colour) + 0.05) >= 4.5, text
    for text in ("text.title", "text.end >> nth=0", "text.end >> nth=1"):
        fill = luminance(page.locator("svg.panel >> nth=0").locator(text).evaluate(style)[1])
        assert (max(ground, fill) + 0.05) / (min(ground, fill) + 0.05) >= 3, text


def test_it_fits_a_narrow_window(opened, network):
    page = opened(network[3])
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_file_names_nothing_outside_itself(network):
    text = without_layout(network[3])
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe)\b|\bsrc=|@import|url\((?!#)", text)
    assert [each["name"] for each in document_of(text)["models"][0]["layers"]] == ["0", "2", "6"]
    assert Path(__file__).name not in text
