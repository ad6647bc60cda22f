"""``tsdistill doctor``: what the installation has and what it lacks."""

from __future__ import annotations

from dataclasses import asdict

import click

from tsdistill.cli import output
from tsdistill.cli.command import Command
from tsdistill.cli.shared_options import json_option


@click.command(
    "doctor",
    cls=Command,
    examples=(
        ("tsdistill doctor", "versions, devices, threads, extras, plugins"),
        ("tsdistill doctor --json -", "the same for machines"),
        ("tsdistill doctor --json report.json", "to a file, to send along with a question"),
    ),
)
@json_option("the report")
def command(json_file: str | None) -> None:
    """Show versions, devices, threads, optional extras and what each lacks, plugins and what is wrong with
    them, and the environment variables that change what the toolkit does.
    """
    output.check(output.Output("--json", json_file))
    from tsdistill import plugins
    from tsdistill.installation import installation

    here, loaded = installation(), plugins.summaries()
    if json_file:
        output.write_json(json_file, {**here.to_dict(), "plugins": [asdict(each) for each in loaded]})
    if json_file != output.STDOUT:
        from tsdistill.report.installation_table import installation_table

        output.console().print(installation_table(here, loaded))
