"""The command line: a thin layer over the library."""

from annotation_pipelines.cli.commands import cli, main

__all__ = ["cli", "main"]
