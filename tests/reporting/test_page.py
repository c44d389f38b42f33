"""The page of reports, checks and dataflows, in a real browser: boxes open and close, walks light up, keys do all."""

import re
from importlib.resources import files

import pytest
import torch
from playwright.sync_api import expect
from torch import nn

from autoinit import check, report, trace
from autoinit.checking.findings import CheckFailure, CheckRun
from tests.shared.pages import document_of

NAMES = "found => found.map((each) => each.dataset.name)"
NASTY = "<img src=x onerror=alert(1)></script><!--\u2028&amp;'\""


class Block(nn.Module):
    """fc2 ends in an addition; fc1 feeds a ReLU behind a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(width, width), nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(torch.relu(self.norm(self.fc1(x))))


def network() -> nn.Module:
    """Three equal blocks between a stem that is not trained and a head; the middle of the tail is zero."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("stem", nn.Linear(8, 16))
    model.add_module("blocks", nn.Sequential(*(Block(16) for _ in range(3))))
    model.add_module("tail", nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16), nn.Tanh()))
    model.add_module("head", nn.Linear(16, 4))
    model.stem.weight.requires_grad_(False)
    nn.init.zeros_(model.tail[2].weight)
    return model


@pytest.fixture(scope="module")
def reported() -> str:
    return report(network()).to_html()


def drawn(page) -> None:
    expect(page.locator("#canvas[data-drawn]")).to_have_count(1)


def node(page, label: str):
    """The node whose title is so."""
    return page.locator(".node").filter(has=page.locator("text", has_text=re.compile(f"^{re.escape(label)}$")))


def lit(page) -> set[str]:
    """The names of the nodes that are lit."""
    return set(page.locator(".node.lit").evaluate_all(NAMES))


def press(page, button):
    """Presses a button that has the picture drawn anew, and waits until it is."""
    before = page.locator("#canvas").get_attribute("data-drawn")
    page.get_by_role("button", name=button).click()
    expect(page.locator("#canvas")).not_to_have_attribute("data-drawn", before)


def closed(page):
    press(page, "Close all")
    expect(page.locator(".node.open")).to_have_count(0)


def test_equal_blocks_are_drawn_once_with_their_count(opened, reported):
    page = opened(reported)
    drawn(page)
    closed(page)
    names = page.locator(".node").evaluate_all(NAMES)
    assert names == [
        "input_1",
        "stem",
        "blocks.{0-2}",
        "tail",
        "head",
        "output",
    ]
    expect(node(page, "×3")).to_have_count(1)
    expect(node(page, "15 operations")).to_have_attribute("data-name", "blocks.{0-2}")  # 3 of fc1, norm, relu, fc2, add
    expect(page.locator("path.edge")).to_have_count(5)


def test_a_box_opens_and_closes_by_pointer_and_by_key(opened, reported):
    page = opened(reported)
    drawn(page)
    closed(page)
    box = node(page, "blocks.{0-2}")
    expect(box).to_have_attribute("aria-expanded", "false")
    box.click()
    expect(box).to_have_attribute("aria-expanded", "true")
    for inner in ("fc1", "fc2", "+ add"):
        expect(node(page, inner)).to_have_count(1)
    expect(box).to_be_focused()
    page.keyboard.press("Enter")
    expect(box).to_have_attribute("aria-expanded", "false")
    expect(node(page, "fc1")).to_have_count(0)
    page.keyboard.press(" ")
    expect(node(page, "fc1")).to_have_count(1)


def test_what_is_within_an_open_box_lies_within_its_frame(opened, reported):
    page = opened(reported)
    drawn(page)
    closed(page)
    node(page, "blocks.{0-2}").click()
    frame = page.locator("rect.ground").bounding_box()
    for inner in ("fc1", "fc2", "+ add"):
        box = node(page, inner).locator(".outline").bounding_box()
        assert frame["x"] < box["x"]
        assert box["x"] + box["width"] < frame["x"] + frame["width"]
        assert frame["y"] < box["y"]
        assert box["y"] + box["height"] < frame["y"] + frame["height"]


def test_no_two_nodes_lie_over_each_other(opened, reported):
    page = opened(reported)
    drawn(page)
    press(page, "Open all")
    expect(node(page, "fc1")).to_have_count(1)
    boxes = [each.bounding_box() for each in page.locator(".node:not(.open) .outline").all()]
    assert len(boxes) == 13  # input, stem, five of the block, four of the tail, head, output
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            apart = (
                one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
                or one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            )  # fmt: skip
            assert apart, (one, other)


def test_pointing_at_a_weight_lights_up_its_walk(opened, reported):
    """fc1 goes through the norm to the ReLU; fc2 to the addition."""
    page = opened(reported)
    drawn(page)
    press(page, "Open all")
    node(page, "fc1").hover()
    assert lit(page) == {"blocks.0.fc1", "blocks.0.norm", "relu"}
    expect(page.locator(".node.end")).to_have_attribute("data-name", "relu")
    expect(page.locator("path.edge.lit")).to_have_count(2)
    assert page.locator("#walk .way li").all_inner_texts() == ["blocks.0.fc1", "blocks.0.norm", "relu"]
    expect(page.locator("#walk")).to_contain_text("feeds relu")
    expect(page.locator("#walk")).to_contain_text("and 2 alike, such as blocks.2.fc1")
    node(page, "fc2").hover()
    assert lit(page) == {"blocks.0.fc2", "add"}
    expect(page.locator("#walk")).to_contain_text("Here another signal is added, before anything has bent this one")
    page.locator("h1").hover()
    expect(page.locator(".node.lit")).to_have_count(0)


def test_a_walk_into_a_closed_box_lights_the_box(opened):
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(), nn.ReLU(), nn.Linear(4, 4), nn.ReLU()))
    page = opened(report(model).to_html())
    drawn(page)
    closed(page)
    node(page, "0").hover()
    assert lit(page) == {"0", "1"}
    expect(page.locator("path.edge.lit")).to_have_count(1)


def test_a_click_keeps_a_walk_and_finds_its_row(opened, reported):
    page = opened(reported)
    drawn(page)
    press(page, "Open all")
    node(page, "fc2").click()
    page.locator("h1").hover()
    assert lit(page) == {"blocks.0.fc2", "add"}
    expect(page.locator("#layers tr.found th")).to_have_text("blocks.0.fc2")
    node(page, "fc2").focus()
    page.keyboard.press("Escape")
    page.locator("h1").focus()
    page.keyboard.press("Tab")
    expect(page.locator(".node.lit")).to_have_count(0)


def test_a_row_opens_the_boxes_around_its_layer(opened, reported):
    page = opened(reported)
    drawn(page)
    closed(page)
    page.get_by_role("button", name="blocks.1.fc1", exact=True).click()
    expect(node(page, "fc1")).to_be_in_viewport()
    assert lit(page) == {"blocks.0.fc1", "blocks.0.norm", "relu"}  # blocks.0 is drawn for blocks.1


AT_ONCE = """wanted => {
  for (const [sort, name] of wanted) {
    const group = [...document.querySelectorAll(".node")].find((each) => each.dataset.name === name);
    const button = [...document.querySelectorAll("button")].find((each) => each.textContent === name);
    if (sort === "click") button.click();
    else if (sort === "key") group.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true }));
    else group.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  }
}"""
"""Acts one after the other, before any picture that they ask for is drawn."""


def test_pointing_at_what_is_about_to_be_closed_or_replaced(opened, reported):
    """While a picture is laid out the one before is still there: no error (the fixture's), and no walk into nothing."""
    page = opened(reported)
    drawn(page)
    press(page, "Open all")
    page.evaluate(AT_ONCE, [["click", "Close all"], ["point", "blocks.0.fc1"], ["point", "stem"], ["key", "head"]])
    expect(page.locator(".node.open")).to_have_count(0)
    node(page, "stem").hover()
    assert "stem" in lit(page)


def test_of_two_layers_asked_for_at_once_the_last_is_shown(opened, reported):
    page = opened(reported)
    drawn(page)
    closed(page)
    page.evaluate(AT_ONCE, [["click", "blocks.1.fc1"], ["click", "tail.0"]])
    expect(page.locator(".node.pinned")).to_have_attribute("data-name", "tail.0")
    assert lit(page) == {"tail.0", "tail.1"}
    press(page, "Open all")
    assert lit(page) == {"tail.0", "tail.1"}  # drawn anew, and still lit
    page.evaluate(AT_ONCE, [["click", "blocks.1.fc1"], ["click", "Close all"]])
    expect(page.locator(".node.pinned")).to_have_attribute("data-name", "blocks.{0-2}")


def test_arrow_keys_go_from_node_to_node(opened, reported):
    page = opened(reported)
    drawn(page)
    closed(page)
    page.locator("#fit").focus()
    page.keyboard.press("Tab")
    told = []
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        told.append(page.locator(":focus").get_attribute("data-name"))
    assert told == ["stem", "blocks.{0-2}", "tail", "blocks.{0-2}"]
    expect(page.locator(".node[tabindex='0']")).to_have_count(1)


def test_states_are_told_by_words_and_shapes(opened, reported):
    """A weight that is not trained, one that is zero, one behind which a norm lies."""
    page = opened(reported)
    drawn(page)
    press(page, "Open all")
    assert node(page, "stem").locator("text.tag").all_text_contents() == ["skipped"]
    assert node(page, "2").locator("text.tag").all_text_contents() == ["kept"]
    assert node(page, "fc1").locator("text.tag").all_text_contents() == ["normed"]
    dashes = [
        node(page, label).locator(".outline").evaluate("each => getComputedStyle(each).strokeDasharray")
        for label in ("stem", "2", "fc1")
    ]
    assert len(set(dashes)) == 3
    assert dashes[2] == "none"
    expect(node(page, "fc1").locator("rect.kind-rectifier")).to_have_count(1)
    expect(node(page, "fc2").locator("rect.kind-add")).to_have_count(1)
    expect(node(page, "0").locator("rect.kind-smooth")).to_have_count(1)
    expect(node(page, "head").locator("rect.kind-head")).to_have_count(1)


def test_findings_mark_their_layers_and_lead_to_them(opened):
    model = network()
    with torch.no_grad():
        model.tail[0].weight.mul_(30)
    page = opened(check(model).to_html())
    drawn(page)
    closed(page)
    expect(node(page, "tail").locator("text.fault")).to_have_text("1")
    found = page.locator(".finding", has_text="tail.0").first
    assert re.match(r"\S INI\d+ (error|warning) tail\.0", found.locator(".head").inner_text())
    found.get_by_role("button", name="tail.0").click()
    faulty = node(page, "0")
    expect(faulty.locator("rect.faulty")).to_have_count(1)
    assert re.match(r"INI\d+", faulty.locator("text.tag.fault").first.text_content())
    expect(faulty.locator("path.warning").first).to_be_visible()


def test_a_block_with_a_finding_is_not_drawn_for_the_others(opened):
    model = network()
    with torch.no_grad():
        model.blocks[1].fc2.weight.mul_(50)
    page = opened(check(model).to_html())
    drawn(page)
    assert not any("{0-2}" in name for name in page.locator(".node").evaluate_all(NAMES))


def test_searching_and_sorting_the_layers(opened, reported):
    page = opened(reported)
    drawn(page)
    names = page.locator("#layers tbody th")
    page.locator("#search").fill("smooth")
    expect(names).to_have_text(["tail.0", "tail.2"])
    page.locator("#search").fill("kept")
    expect(names).to_have_text(["tail.2"])
    page.locator("#search").fill("blocks addition")
    page.locator("#layers thead button", has_text="layer").dblclick()
    expect(names).to_have_text(["blocks.2.fc2", "blocks.1.fc2", "blocks.0.fc2"])


def test_size_buttons(opened, reported):
    page = opened(reported)
    drawn(page)
    width = "document.getElementById('picture').getBoundingClientRect().width"
    before = page.evaluate(width)
    page.get_by_role("button", name="Larger").click()
    assert page.evaluate(width) == pytest.approx(1.25 * before, rel=1e-3)
    page.get_by_role("button", name="Smaller").click()
    assert page.evaluate(width) == pytest.approx(before, rel=1e-3)


def test_it_prints(opened, reported):
    """One column, no buttons, the whole table; the printer gives several pages of PDF."""
    page = opened(reported)
    drawn(page)
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Open all")).to_be_hidden()
    expect(page.locator("#search")).to_be_hidden()
    expect(page.locator("#picture")).to_be_visible()
    overflow = "each => getComputedStyle(each.parentElement).overflowY"
    assert page.locator("#layers").evaluate(overflow) == "visible"
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF-")
    assert b"/Type /Page" in printed


def test_several_models_and_one_that_could_not_be_read(opened):
    run = CheckRun(
        (check(network(), name="first"), check(nn.Sequential(nn.Linear(2, 2)), name="second")),
        (CheckFailure("third", "third: no such file"),),
        notes=("of all",),
    )
    page = opened(run.to("html"))
    drawn(page)
    expect(page.locator("h1")).to_have_text("first")
    page.locator("#choice").select_option("second")
    expect(page.locator("h1")).to_have_text("second")
    expect(page.locator("#layers tbody th")).to_have_text(["0"])
    expect(page.locator("#notes li").first).to_have_text("of all")
    page.locator("#choice").select_option("third")
    expect(page.locator("#failure")).to_have_text("no such file")
    expect(page.locator("main")).to_be_hidden()


def test_a_dataflow_is_shown_with_its_walks(opened):
    page = opened(trace(network()).to_html())
    drawn(page)
    press(page, "Open all")
    node(page, "fc1").hover()
    assert lit(page) == {"blocks.0.fc1", "blocks.0.norm", "relu"}


def test_a_dataflow_in_a_notebook_is_a_frame(opened, browser):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.set_content(trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))._repr_html_())
    frame = page.frame_locator("iframe")
    expect(frame.locator("#canvas[data-drawn] .node")).to_have_count(4)
    context.close()


def test_nothing_in_a_name_is_markup(opened):
    model = nn.Sequential()
    inner = nn.Sequential()
    inner.add_module(NASTY, nn.Linear(4, 4))
    inner.add_module("act", nn.ReLU())
    model.add_module(f"box {NASTY}".replace(".", ""), inner)
    with torch.no_grad():
        inner[0].weight.mul_(40)
    page = opened(check(model, name=NASTY).to_html())
    drawn(page)
    press(page, "Open all")
    shown = NASTY.replace("\u2028", "\ufffd")
    expect(page.locator("h1")).to_have_text(shown)
    expect(page).to_have_title(f"autoinit check: {shown}")
    assert any(shown in label for label in page.locator("svg .node title").all_text_contents())
    page.locator("#layers .link").first.click()
    expect(page.locator("#walk b").first).to_have_text(f"box {shown}.{shown}")
    assert page.locator("img").count() == 0
    assert page.locator("#walk b b").count() == 0


def test_a_script_that_is_not_the_pages_own_does_not_run(browser, tmp_path, reported):
    """The page names its scripts by their hashes, so that a browser refuses any other."""
    file = tmp_path / "page.html"
    file.write_text(reported.replace("</body>", "<script>document.title = 'run'</script></body>"), encoding="utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    expect(page.locator("#canvas[data-drawn]")).to_have_count(1)
    assert page.title() == "autoinit: Sequential"
    context.close()


def test_it_fits_a_narrow_window(opened, reported):
    page = opened(reported)
    page.set_viewport_size({"width": 400, "height": 800})
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_names_of_the_scripts_are_defined_once():
    """They share one scope, where a second function of a name would silently replace the first."""
    room = files("autoinit.reporting.pages")
    scripts = ("shared.js", "picture.js", "walks.js", "plot.js", "table.js", "start.js")
    text = "\n".join(room.joinpath(name).read_text(encoding="utf-8") for name in scripts)
    names = re.findall(r"^(?:async )?(?:function|const|let) (\w+)", text, re.MULTILINE)
    assert len(names) > 60
    assert sorted(names) == sorted(set(names))


def test_the_document_of_a_residual_block():
    """x -> fc1 -> norm -> relu -> fc2 -> add(x): by hand."""
    (shown,) = document_of(report(Block(4)).to_html())["models"]
    assert [op["name"] for op in shown["ops"]] == ["x", "fc1", "norm", "relu", "fc2", "add", "output"]
    assert [op["reads"] for op in shown["ops"]] == [[], [0], [1], [2], [3], [0, 4], [5]]
    assert [op["layers"] for op in shown["ops"]] == [[], [0], [], [], [1], [], []]
    assert [(each["name"], each["kind"], each["walks"][0]["steps"]) for each in shown["layers"]] == [
        ("fc1", "rectifier", [2, 3]),
        ("fc2", "add", [5]),
    ]
    assert [box["label"] for box in shown["boxes"]] == [""]
