"""The command `llmb`: one parser, one row for each subcommand.

Exit status: 0, 1 (it found something wrong) or 2 (wrong use). A subcommand's module is imported
when it is asked for, so that `llmb simulate` needs no database driver.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version

#: Subcommand -> the module with its `add_arguments` and `run`, and what it does.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("llm_operator.standalone.up", "run everything on this machine, without a cluster"),
    "operator": ("llm_operator.run", "run the operator against a cluster"),
    "migrate": ("llm_operator.migrate", "bring the record's schema up to date"),
    "explain": ("llm_operator.explain", "say where a request for a model would go, and why"),
    "simulate": ("llm_operator.simulate.server", "run a simulated Ollama or MLX host"),
}

DESCRIPTION = "Say per model where a language model is served."
EPILOG = """example:
  llmb up                          everything on one machine; prints a curl that works
  llmb COMMAND --help              a command's flags, settings and an example
"""


def main(arguments: list[str] | None = None) -> None:
    """Run one subcommand; the process's entry point."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="llmb",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("llm-backend"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, meaning) in COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=meaning)
        if name in words[:1]:
            import_module(module).add_arguments(command)
    parsed = parser.parse_args(words)
    run = import_module(COMMANDS[parsed.command][0]).run
    sys.exit(asyncio.run(run(parsed)))


if __name__ == "__main__":
    main()
