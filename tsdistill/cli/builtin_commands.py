"""The commands that come with the toolkit, registered as a plugin's are."""

from __future__ import annotations

from tsdistill.plugins.hookspecs import LazyCommand, Register, hookimpl

_MODULES = {
    "analyze": ("tsdistill.cli.analyze_command", "Show which nodes carry what the model has learnt."),
    "prune": ("tsdistill.cli.prune_command", "Cut nodes that little depends on, write a smaller model."),
    "distill": ("tsdistill.cli.distill_command", "Train a student to do what a teacher does."),
    "train": ("tsdistill.cli.train_command", "Train a model on labels."),
    "compare": ("tsdistill.cli.compare_command", "Lay models side by side: accuracy, size, speed, memory."),
    "export": ("tsdistill.cli.export_command", "Write a model for other engines, or as Python source."),
    "lab": ("tsdistill.lab.cli.lab_command", "Run the experiments behind the theory, see how far it holds."),
    "doctor": ("tsdistill.cli.doctor_command", "Show versions, devices, and what is missing for what."),
    "plugins": ("tsdistill.cli.plugins_command", "List what each plugin hook offers."),
}

COMMANDS = {name: LazyCommand(f"{module}:command", line) for name, (module, line) in _MODULES.items()}


@hookimpl
def register_commands(register: Register) -> None:
    """Register them."""
    for name, command in COMMANDS.items():
        register(name, command)
