"""How fast pages open in a browser, and what axe finds in them.

    python benchmarks/pages.py
    python benchmarks/pages.py --axe node_modules/axe-core/axe.min.js

Models of residual blocks and plain chains. Seconds are medians of --repeats loads of the file, from the request to the
finished picture, in Chromium without a window; the second figure is what making the page took. axe-core is not part of
this repository (npm install axe-core): with --axe a page of 60 operations is held against its rules, in both schemes.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from autoinit import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Block(nn.Module):
    """Five operations; every third has another nonlinearity, so that neighbours are not drawn as one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.act = nn.GELU() if number % 3 else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102 - torch's
        return x + self.down(self.act(self.up(self.norm(x))))


def blocks(operations: int) -> nn.Module:
    """Residual blocks in a row."""
    return nn.Sequential(*(Block(number) for number in range(operations // 5)))


def chain(operations: int) -> nn.Module:
    """Layers and nonlinearities without a module around them."""
    acts = (nn.ReLU, nn.Tanh, nn.GELU)
    return nn.Sequential(*(each for number in range(operations // 2) for each in (nn.Linear(4, 4), acts[number % 3]())))


CASES = {
    f"{operations} operations, {make.__name__}": (make, operations)
    for operations in (1_000, 10_000)
    for make in (blocks, chain)
}


def opening(browser: Browser, file: Path, repeats: int) -> float:
    """Seconds from the request of a page to its finished picture."""
    taken = []
    for _ in range(repeats):
        page = browser.new_page()
        started = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("#canvas[data-drawn]")
        taken.append(time.perf_counter() - started)
        page.close()
    return statistics.median(taken)


def violations(browser: Browser, file: Path, axe: str) -> str:
    """What axe finds, in both schemes, before and while a walk is lit."""
    found: dict[str, str] = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(file.as_uri())
        page.wait_for_selector("#canvas[data-drawn]")
        page.evaluate(axe)
        for lit in (False, True):
            if lit:
                page.locator("#layers .link").first.click()
                page.wait_for_selector(".node.lit")
                page.wait_for_timeout(1000)  # until it has faded in
            found |= {each["id"]: each["impact"] for each in page.evaluate("axe.run()")["violations"]}
        context.close()
    return ", ".join(f"{rule} ({impact})" for rule, impact in found.items()) or "none"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="loads that are timed (default 5)")
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    given = parser.parse_args()
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if given.repeats < 1 or program is None:
        parser.error("--repeats takes a number above 0" if program else f"none of {', '.join(BROWSERS)} is on PATH")
    found = Table(title="pages")
    for head in ("model", "opens (s)", "is made (s)", "MB"):
        found.add_column(head, justify="left" if head == "model" else "right")
    with tempfile.TemporaryDirectory() as room, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program)
        for name, (make, operations) in CASES.items():
            reported = report(make(operations))
            started = time.perf_counter()
            text = reported.to_html()
            made = time.perf_counter() - started
            file = Path(room) / "page.html"
            file.write_text(text, encoding="utf-8")
            seconds = opening(browser, file, given.repeats)
            found.add_row(name, f"{seconds:.2f}", f"{made:.2f}", f"{len(text) / 1e6:.1f}")
        Console().print(found)
        if given.axe:
            file.write_text(report(blocks(60)).to_html(), encoding="utf-8")
            Console().print(f"axe finds: {violations(browser, file, given.axe.read_text(encoding='utf-8'))}")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
