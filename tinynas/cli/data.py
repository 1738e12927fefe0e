"""data prepare, data info."""

from __future__ import annotations

import typer

from tinynas.cli.app import app

data = typer.Typer(help="Prepare data sets and look into them.", no_args_is_help=True)
app.add_typer(data, name="data")
