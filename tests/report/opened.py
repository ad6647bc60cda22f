"""A page that is open in a browser, and the figures that Python expects in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsdistill.alignment import AlignmentReport, GroupReport


@dataclass
class Opened:
    """A page that is open, and what it has done."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def settle(self) -> None:
        """Wait until what the page has planned is drawn."""
        self.page.wait_for_selector("main[aria-busy=false]")

    def press(self, selector: str, *keys: str) -> None:
        self.page.focus(selector)
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def tiles(self) -> dict[str, int]:
        found = self.page.eval_on_selector_all(".tile", "(all) => all.map((t) => [t.id, t.dataset.value])")
        return {name.removeprefix("tile-"): int(value) for name, value in found}

    def column(self, name: str) -> list[str]:
        return self.page.eval_on_selector_all(
            f".overview-row .{name}", "(all) => all.map((t) => t.textContent)"
        )

    def plot(self, name: str, what: str) -> Any:
        return self.page.evaluate(f"() => document.querySelector('#{name} > div').{what}")


def open_page(browser: Any, path: Path) -> Opened:
    """Open a file without a network, and wait until it is drawn."""
    page = browser.new_page(offline=True, viewport={"width": 1280, "height": 900})
    shown = Opened(page)
    page.on("console", lambda message: shown.errors.append(message.text))
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    page.on("request", lambda request: shown.requests.append(request.url))
    page.on("dialog", lambda dialog: shown.errors.append(dialog.message))
    page.goto(path.as_uri())
    page.wait_for_selector("#curve .main-svg")
    shown.settle()
    return shown


def leaving(group: GroupReport, threshold: float) -> np.ndarray:
    goes = group.dead | group.weak | (group.leaving_r2 >= threshold)
    if goes.all():
        goes[group.strength.argmax()] = False
    return goes


def expected(
    report: AlignmentReport, aligned: float, redundant: float, metric: str = "correlation"
) -> dict[str, int]:
    """The tiles as Python counts them."""
    matches = [group.matches[metric] for group in report.groups if metric in group.matches]
    kept = {group.name: group.size - int(leaving(group, redundant).sum()) for group in report.groups}
    return {
        "teacher-aligned": sum(int((each.teacher_similarity >= aligned).sum()) for each in matches),
        "aligned-nodes": sum(
            int(((each.best >= 0) & (each.similarity >= aligned)).sum()) for each in matches
        ),
        "candidates": sum(group.size - kept[group.name] for group in report.groups),
        "params-saved": report.graph.params() - report.graph.params(kept),
        "macs-saved": report.graph.macs() - report.graph.macs(kept),
    }
