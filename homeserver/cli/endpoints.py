"""`hearth endpoints`: what this server answers."""

import typer

from homeserver.app import ENDPOINTS
from homeserver.http.reference import render
from homeserver.http.routes import collect


def endpoints() -> None:
    """Print the reference of all endpoints."""
    typer.echo(render(collect(ENDPOINTS)), nl=False)
