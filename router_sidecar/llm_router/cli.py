"""The command `llm-router`: read the settings, run, exit 0, 1 (it failed) or 2 (wrong use)."""

import argparse
import os
import sys
from importlib.metadata import version

import uvloop

from llm_router.mount import MountError
from llm_router.run import PortTaken, run
from llm_router.settings import TABLE, SettingError, Settings

EPILOG = """example:
  LLM_ROUTER_CONFIG=/etc/llm-router LLM_ROUTER_PORT=11434 llm-router

settings (environment variables):
"""


def main(arguments: list[str] | None = None) -> None:
    """Run a router; the process's entry point."""
    rows = [f"  {s.variable:34} {s.meaning} [{s.default or 'unset'}]" for s in TABLE]
    parser = argparse.ArgumentParser(
        prog="llm-router",
        description="Serve every configured model on one localhost port.",
        epilog=EPILOG + "\n".join(rows),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("llm-backend"))
    parser.parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ)
        sys.exit(uvloop.run(run(settings)))
    except (SettingError, MountError, PortTaken) as error:
        sys.stderr.write(f"llm-router: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
