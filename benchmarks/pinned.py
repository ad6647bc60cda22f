"""What the toolkit computes, pinned: shows that a change of structure changes nothing that it does.

    python benchmarks/pinned.py record FILE [--root CHECKOUT] [--only RUN ...]
    python benchmarks/pinned.py compare OLD NEW

``record`` runs about twenty commands (``pinned_runs/runs.py``), each in a process of its own with one
thread, and adds a line of JSON for each to FILE: digests of plans, weights, outputs and reports, and their
main figures, nothing that depends on the day, the folder or the load of the machine. A run that FILE has
already is left out, so that a recording goes on where it was stopped. ``--root`` measures another checkout
of the toolkit with the runs of this one. ``compare`` prints one table of two such files; its exit code is 1
where they differ. All runs take about ten minutes of one core.

``pinned.jsonl`` is the record of the commit that it names. Last digits depend on the processor and on the
versions of torch and others, so compare records of one machine: record the older commit there once more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pinned_runs.comparison import show
from record import Record
from rich.console import Console

HERE = Path(__file__).resolve().parent


def opened(path: Path) -> Record:
    """The record in a file, its rows by the names of the runs."""
    return Record(path, lambda row: (row["run"],))


def environment(root: Path) -> dict[str, str]:
    """That of a run: the checkout in ``root``, one thread, no network, no plugins, whatever is installed."""
    settings = {
        "PYTHONPATH": os.pathsep.join((str(root), str(HERE))),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TSDISTILL_PLUGINS": "",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return {**os.environ, **settings}


def commit(root: Path) -> str:
    """The commit of a checkout, with a plus where the toolkit has changes that are not committed."""
    git = ["git", "-C", str(root)]
    name = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    changed = subprocess.check_output([*git, "status", "--porcelain", "--", "tsdistill"], text=True)
    return f"{name}+" if changed else name


def run_names(root: Path) -> list[str]:
    """The names of all runs; the checkout must be the one that is imported.

    Raises:
        SystemExit: ``root`` has no toolkit.
    """
    code = "import tsdistill, pinned_runs.runs as r; print(tsdistill.__file__, *r.RUNS, sep='\\n')"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env=environment(root), capture_output=True, text=True, check=True)
    file, *names = done.stdout.splitlines()
    if not Path(file).is_relative_to(root):
        raise SystemExit(f"pinned: {root} has no tsdistill/; give --root a checkout of the toolkit")
    return names


def figures_of(name: str, root: Path) -> dict[str, Any]:
    """Figures and machine of one run.

    Raises:
        RuntimeError: the run failed; the message has the end of its stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "pinned_runs.one", name, str(file)]
        done = subprocess.run(command, env=environment(root), cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        return json.loads(file.read_text())


def record(file: Path, root: Path, only: list[str]) -> int:
    """Add the runs that ``file`` lacks; the number of runs that failed."""
    names = run_names(root)
    if unknown := set(only) - set(names):
        raise SystemExit(
            f"pinned: no run is called {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    rows, failed = opened(file), 0
    made_at = commit(root)
    others = {row["commit"] for row in rows.read().values()} - {made_at}
    if others:
        raise SystemExit(
            f"pinned: {file} holds runs of commit {min(others)}, not {made_at}; give another file"
        )
    for name in only or names:
        if (name,) in rows.read():
            continue
        start = time.perf_counter()
        try:
            rows.add({"run": name, "commit": made_at, **figures_of(name, root)})
            outcome = "recorded"
        except RuntimeError as error:
            failed += 1
            outcome = f"FAILED\n{error}"
        print(f"{name}: {outcome} ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    return failed


def compare(old: Path, new: Path) -> bool:
    """Print the table; whether both are the same."""
    before, after = ({run: row for (run,), row in opened(path).read().items()} for path in (old, new))
    return show(before, after, Console(width=120))


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    recording = parts.add_parser("record", help="add the runs that FILE lacks")
    recording.add_argument("file", type=Path, metavar="FILE")
    recording.add_argument("--root", type=Path, default=HERE.parent, help="the checkout that is measured")
    recording.add_argument("--only", nargs="+", default=[], metavar="RUN", help="these runs alone")
    comparing = parts.add_parser("compare", help="print what differs between two records")
    comparing.add_argument("old", type=Path, metavar="OLD")
    comparing.add_argument("new", type=Path, metavar="NEW")
    arguments = parser.parse_args()
    if arguments.part == "record":
        sys.exit(bool(record(arguments.file, arguments.root.resolve(), arguments.only)))
    for path in (arguments.old, arguments.new):
        if not path.exists():
            parser.error(f"{path}: no such file")
    sys.exit(not compare(arguments.old, arguments.new))


if __name__ == "__main__":
    main()
