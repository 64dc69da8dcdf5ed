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
    "admin": ("llm_operator.admin.run", "serve the admin API and its page for a cluster"),
    "migrate": ("llm_operator.migrate", "bring the record's schema up to date"),
    "import": ("llm_operator.predecessor.command", "turn the predecessor's rows into LLMBackends"),
    "status": ("llm_operator.command.status", "say how LLMBackends stand, and what to do"),
    "validate": ("llm_operator.command.validate", "check manifests offline, for CI and pre-commit"),
    "render": ("llm_operator.command.render", "print the routing.json that manifests give"),
    "explain": ("llm_operator.explain", "say where a request for a model would go, and why"),
    "compare": ("llm_operator.compare.command", "say how fast each backend of a model was"),
    "uninstall": ("llm_operator.command.uninstall", "let LLMBackends go when the operator is gone"),
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
        epilog=f"commands:\n{_listed()}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("llm-backend"))
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, help="see below"
    )
    for name, (module, meaning) in COMMANDS.items():
        command = commands.add_parser(name, description=meaning)
        if name in words[:1]:
            import_module(module).add_arguments(command)
    parsed = parser.parse_args(words)
    run = import_module(COMMANDS[parsed.command][0]).run
    sys.exit(asyncio.run(run(parsed)))


def _listed() -> str:
    # NB: argparse's own list breaks the line after its longest name.
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:{width}}  {meaning}" for name, (_, meaning) in COMMANDS.items())


if __name__ == "__main__":
    main()
