"""The command line. Every command starts here, so nothing is imported before it is needed."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command; the process's exit code. *argv*: without the program's name; None: the process's own."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            from anyform.cli.overview import text

            sys.stdout.write(text())
            sys.stdout.flush()
            return 0
        from anyform.cli.command import dispatch

        return dispatch(arguments)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not is_closed_pipe(error):
            raise
        return _end_on_closed_pipe()


def is_closed_pipe(error: OSError) -> bool:
    """Whether *error* means that nobody reads the output any more; Windows says EINVAL then."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == 22)


def _end_on_closed_pipe() -> int:
    """The exit code for a reader that went away (`anyform list | head -1`): what a shell shows for SIGPIPE."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
