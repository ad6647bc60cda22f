"""``tsdistill lab``: one subcommand for each experiment, and ``check``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import output, progress_display
from tsdistill.cli.command import Command, option, options
from tsdistill.cli.lazy_group import Entry, LazyGroup, imported
from tsdistill.files import made_folder
from tsdistill.lab import EXPERIMENTS, experiment, run

if TYPE_CHECKING:
    from tsdistill.lab import Outcome
    from tsdistill.lab.figures import SavedOutcome

CHECK = "check"
CHECK_LINE = "Check how far the theorems' conditions hold for your model and its teacher."
CELLS = "cells"
FILES = ("outcome.json", "*.png", "*.svg", "*.gif", f"{CELLS}/*")
"""Files that a run writes into its folder, as patterns of ``fnmatch``."""


def _experiments() -> dict[str, Entry]:
    return {name: Entry(line, partial(_command, name)) for name, line in EXPERIMENTS.items()}


def _checks() -> dict[str, Entry]:
    place = "tsdistill.lab.cli.check_command:command"
    return {CHECK: Entry(CHECK_LINE, partial(imported, place, CHECK))}


@click.command(
    "lab",
    cls=LazyGroup,
    sections={"Experiments": _experiments, "For networks of yours": _checks},
    epilog="`tsdistill lab NAME --help` lists an experiment's options; docs/theory.md has the results.",
)
def command() -> None:
    """Run an experiment behind the theory: tables, figures, and whether each claim held.

    \b
    tsdistill lab NAME --quick        a reduced version, within two minutes
    tsdistill lab NAME --out DIR      the full run; the same command resumes it after a stop
    """


def _command(name: str) -> click.Command:
    from tsdistill.lab.cli.setting_options import settings_options

    @progress_display.progress_options
    def callback(quick: bool, out: str | None, json_file: str | None, **settings: Any) -> None:
        chosen = {setting: value for setting, value in settings.items() if value is not None}
        _run(name, quick, out, json_file, chosen)

    folder = f"Folder for outcome.json, figures and what is finished; lab/{name} without it."
    decorate = options(
        option("Other", "--quick", is_flag=True, help="Run a reduced version, within two minutes."),
        option("Other", "-o", "--out", metavar="DIR", help=folder),
        option(
            "Other", "--json", "json_file", metavar="FILE|-", help="Write the outcome as JSON; - for stdout."
        ),
        *settings_options(experiment(name)),
    )
    make = click.command(
        name,
        cls=Command,
        help=EXPERIMENTS[name],
        examples=(
            (f"tsdistill lab {name} --quick", "a reduced version, within two minutes"),
            (f"tsdistill lab {name} --out DIR", "the full run; the same command resumes it after a stop"),
            (f"tsdistill lab {name} --quick --seed 1 --json -", "other random numbers, for machines"),
        ),
    )
    command: click.Command = make(decorate(callback))
    return command


def _run(name: str, quick: bool, out: str | None, json_file: str | None, settings: dict[str, Any]) -> None:
    folder = _folder(name, quick, out, json_file)
    with progress_display.progress() as tell:
        tell.expect({})
        try:
            outcome = run(name, quick=quick, keep=folder / CELLS, tell=tell, settings=settings)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"(the same command resumes from {folder / CELLS})") from None
    from tsdistill.lab.figures import save_outcome
    from tsdistill.lab.figures.outcome_files import outcome_document

    with progress_display.stage(f"drawing into {folder}"):
        saved = save_outcome(outcome, folder)
    if json_file:
        output.write_json(json_file, outcome_document(outcome))
    if json_file != output.STDOUT:
        _show(outcome, saved)


def _folder(name: str, quick: bool, out: str | None, json_file: str | None) -> Path:
    """The folder of a run; creates it if needed.

    Raises:
        TsdistillError: the folder cannot be created, or an output would overwrite an input.
    """
    folder = Path(out) if out else Path("lab") / (f"{name}-quick" if quick else name)
    if not out:
        made_folder(folder.parent)
    output.check(output.Output("-o", folder, FILES), output.Output("--json", json_file))
    made_folder(folder / CELLS)
    return folder


def _show(outcome: Outcome, saved: SavedOutcome) -> None:
    from tsdistill.lab.figures import claims_table, outcome_table
    from tsdistill.report.numbers import counted, seconds

    console = output.console()
    for table in outcome.tables:
        console.print(outcome_table(table))
        console.print()
    if outcome.claims:
        console.print(claims_table(outcome.claims))
    for note in outcome.notes:
        console.print(f"note    {note}")
    names = ", ".join(path.name for path in (saved.outcome, *saved.pictures))
    console.print(f"files   {saved.outcome.parent}: {names}")
    verdicts = [claim.held for claim in outcome.claims]
    verdict_text = f"{verdicts.count(True)} of {counted(len(verdicts), 'claim')} held"
    console.print(f"time    {seconds(outcome.seconds)}; {verdict_text}")
