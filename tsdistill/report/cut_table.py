"""What cuts would cost: a table for a terminal and one for a page, with the widths as a small picture."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.text import Text

from tsdistill.alignment.predicted_cuts import PredictedCut, PredictedCuts
from tsdistill.printable import html_text
from tsdistill.report.table_layout import table

_STEPS = "▁▂▃▄▅▆▇█"
_WIDTH, _GAP, _HEIGHT = 7, 2, 26
"""Of a bar of the page's picture, between two, and of a group that is not pruned, in pixels."""

_WIDEST = 360
"""Of the page's picture, in pixels: bars of many groups are thinner."""

EXPLANATION = (
    "Output off by: how far the output moves, root mean square, in parts of its own, predicted for the cut "
    "as it is from {samples}; the layers that read what leaves are compensated, and nothing "
    "is re-aligned. Such cuts of four networks, fitted to 256 images, moved it 0.9 to 1.2 times as far on "
    "others, and 0.5 to 0.8 times as far once prune had re-aligned them, as it does with real data."
)
PICTURE = "Widths: a bar a group, from input to output, full where the group is not pruned."


def cuts_table(cuts: PredictedCuts) -> Group:
    """A row a cut: what it keeps, how far it moves the output, and how wide each group stays."""
    rows = table(
        "What cuts would cost", "MACs\nkept", "params\nkept", "output\noff by", "<widths", close=True
    )
    for cut in cuts.cuts:
        rows.add_row(
            f"{cut.macs_kept:.2f}", f"{cut.params_kept:.2f}", off_by(cut.error), picture(cut, cuts.sizes)
        )
    lines = [f"{explanation(cuts)} {PICTURE}", *cuts.notes]
    caption = [Text(line) for line in lines]
    command = [Text(), Text(f"$ {cuts.command_of(suggested(cuts))}")] if cuts.cuts else []
    return Group(rows, Text(), *caption, *command)


def explanation(cuts: PredictedCuts) -> str:
    """What the figures mean, and on what they rest."""
    if cuts.held_out:
        return EXPLANATION.format(samples=f"up to {cuts.samples} samples that nothing was fitted to")
    few = f"{cuts.samples} of the samples that were fitted to (where those are few, others move it further)"
    return EXPLANATION.format(samples=few)


def suggested(cuts: PredictedCuts, most: float = 0.1) -> PredictedCut:
    """The cut that keeps least among those that move the output by at most ``most``, else the mildest.

    On the networks of ``benchmarks/trained`` a tenth of the output, before re-alignment, costs less than a
    point of accuracy.
    """
    mild = [cut for cut in cuts.cuts if cut.error is not None and cut.error <= most]
    return min(mild, key=lambda cut: cut.macs) if mild else max(cuts.cuts, key=lambda cut: cut.macs)


def off_by(error: float | None) -> str:
    """A relative error in percent."""
    if error is None:
        return "unknown"
    return "over 100 %" if error > 1 else f"{100 * error:.2g} %"


def picture(cut: PredictedCut, sizes: Mapping[str, int]) -> str:
    """A block a group, as high as the part of its nodes that stay; full only where all do."""
    highest = len(_STEPS) - 1
    return "".join(_STEPS[highest * kept // sizes[name]] for name, kept in cut.widths.items())


def page_section(cuts: PredictedCuts) -> str:
    """The same as a section of the page, in HTML."""
    heads = ("MACs kept", "Parameters kept", "Output off by", "Widths, from input to output", "Command")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = "\n".join(_row(cuts, cut) for cut in cuts.cuts)
    notes = "".join(f'<p class="note">{html_text(note)}</p>' for note in cuts.notes)
    return f"""<section aria-labelledby="cuts-title">
  <h2 id="cuts-title">What cuts would cost</h2>
  <p class="caption">{html_text(explanation(cuts))} {PICTURE}</p>
  <div class="card table-card"><div class="scroll" tabindex="0" role="region" aria-labelledby="cuts-title">
    <table id="cuts"><thead><tr>{head}</tr></thead><tbody>
{rows}
    </tbody></table>
  </div></div>{notes}
</section>"""


def _row(cuts: PredictedCuts, cut: PredictedCut) -> str:
    cells = (f"{cut.macs_kept:.3f}", f"{cut.params_kept:.3f}", off_by(cut.error))
    figures = "".join(f"<td>{cell}</td>" for cell in cells[1:])
    command = f"<td><code>{html_text(cuts.command_of(cut))}</code></td>"
    return f'<tr><th scope="row">{cells[0]}</th>{figures}<td>{_svg(cuts, cut)}</td>{command}</tr>'


def _svg(cuts: PredictedCuts, cut: PredictedCut) -> str:
    """A bar a group as SVG, in front of a quiet one of the whole group."""
    step = _WIDTH + _GAP
    bars = []
    for place, (name, kept) in enumerate(cut.widths.items()):
        size = cuts.sizes[name]
        height = _HEIGHT * kept / size
        title = f"<title>{html_text(name)}: {kept} of {size}</title>"
        bars.append(
            f'<g>{title}<rect class="was" x="{place * step}" y="0" width="{_WIDTH}" height="{_HEIGHT}"/>'
            f'<rect class="stays" x="{place * step}" y="{_HEIGHT - height:.1f}" width="{_WIDTH}" '
            f'height="{height:.1f}"/></g>'
        )
    label = f"Widths at {cut.macs_kept:.3f} of the MACs"
    width = max(_WIDTH, len(cut.widths) * step - _GAP)
    box = (
        f'viewBox="0 0 {width} {_HEIGHT}" width="{min(width, _WIDEST)}" height="{_HEIGHT}" '
        'preserveAspectRatio="none"'
    )
    return f'<svg class="widths" role="img" aria-label="{label}" {box}>{"".join(bars)}</svg>'
