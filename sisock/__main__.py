"""The `sisock` command."""

import sys


def main() -> None:
    """Run the command line; exit with 2 and one line on stderr when something is wrong."""
    try:
        from sisock.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "plotext"):
            raise
        sys.exit("sisock: the command line needs more packages; run: pip install 'sisock[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    app.main()


if __name__ == "__main__":
    main()
