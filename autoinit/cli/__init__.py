"""The command line. torch and the rest of the package are imported by the commands that need them.

To add a command, write it in a module here and name it below; an option of a plan is offered by itself (`_options`).
"""

from __future__ import annotations

import click

from autoinit._version import __version__
from autoinit.cli._group import Commands
from autoinit.cli.checking import check
from autoinit.cli.explaining import explain, recipes
from autoinit.cli.helping import completion, demo
from autoinit.cli.initialising import apply, report
from autoinit.cli.scaling_up import scaling
from autoinit.cli.signalling import signal

_FIRST = """\b
First steps:
  autoinit demo                           what it does, on a small network
  autoinit report torchvision:resnet18    what each weight feeds, and how it should start
  autoinit check net.py:build             what is wrong with a model's weights; 1 if anything is
"""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_FIRST)
@click.version_option(__version__, prog_name="autoinit")
def main() -> None:
    """Computes from a PyTorch model's dataflow how each weight should start, sets it, and says why."""


for _command in (report, check, apply, signal, scaling, recipes, explain, demo, completion):
    main.add_command(_command)
