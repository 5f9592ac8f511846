"""What `anyform --help` prints: plain text, since building all the parsers would take longer than all the rest."""

COMMANDS = {
    "run": ("MODEL [PROMPT ...]", "chat with a model, or answer one prompt"),
    "serve": ("[PATH ...]", "serve models over HTTP, as OpenAI does"),
    "list": ("", "the models that are known"),
    "show": ("MODEL", "what a model says of itself"),
    "explain": ("MODEL", "which backend runs a model, and why"),
    "ps": ("", "the models that a server has loaded"),
    "load": ("MODEL", "load a model into a running server"),
    "unload": ("MODEL", "unload a model from a running server"),
    "plugins": ("", "what is installed, and what is broken"),
    "doctor": ("", "check this machine, and say what to do"),
    "bench": ("MODEL", "measure a model's speed here"),
}
"""Name -> (what it takes beside options, what it is for)."""


def text() -> str:
    """The overview of all commands."""
    commands = "\n".join(f"  {name:<8} {takes:<20} {summary}" for name, (takes, summary) in COMMANDS.items())
    return f"""\
anyform runs a model of any form.

usage: anyform COMMAND [options]

{commands}

  anyform run model.gguf               chat with a file
  anyform serve model.gguf             serve it at http://127.0.0.1:11540/v1
  anyform COMMAND --help               the options of a command
  anyform --version                    the version
"""
