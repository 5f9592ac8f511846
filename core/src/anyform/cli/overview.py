"""What `anyform --help` prints: plain text, since building all the parsers would take longer than all the rest."""

COMMANDS = {
    "run": ("[MODEL [PROMPT ...]]", "chat with a model, or answer one prompt"),
    "serve": ("[PATH ...]", "serve models over HTTP, as OpenAI does"),
    "transcribe": ("FILE ...", "write down what is said in sounds"),
    "say": ("[TEXT ...]", "have a model speak a text into a file"),
    "imagine": ("[PROMPT ...]", "have a model paint a picture into a file"),
    "voices": ("[MODEL]", "the voices of the models that speak"),
    "suggest": ("", "models to begin with, for this machine"),
    "pull": ("MODEL", "fetch a model from the hub"),
    "list": ("", "the models that are known"),
    "show": ("MODEL", "what a model says of itself"),
    "explain": ("MODEL", "which backend runs a model, and why"),
    "estimate": ("MODEL", "how much memory a model takes, and whether it fits"),
    "ps": ("", "the models that a server has loaded"),
    "load": ("MODEL", "load a model into a running server"),
    "unload": ("MODEL", "unload a model from a running server"),
    "export": ("MODEL --to FORM", "write a model in another form, such as ONNX"),
    "rm": ("MODEL", "delete a model that was pulled"),
    "clean": ("", "delete what is incomplete, or everything that was pulled"),
    "verify": ("[MODEL ...]", "check pulled files against their checksums"),
    "du": ("", "what models take on the disk"),
    "validate": ("PATH ...", "whether files are sound models"),
    "login": ("", "store a token of the hub"),
    "logout": ("", "forget the stored token"),
    "whoami": ("", "the account that the hub takes us for"),
    "config": ("", "where the settings are, and what they are"),
    "plugins": ("", "what is installed, and what is broken"),
    "doctor": ("", "check this machine, and say what to do"),
    "bench": ("MODEL", "measure a model's speed here"),
}
"""Name -> (what it takes beside options, what it is for)."""


def text() -> str:
    """The overview of all commands."""
    commands = "\n".join(f"  {name:<10} {takes:<20} {summary}" for name, (takes, summary) in COMMANDS.items())
    return f"""\
anyform runs a model of any form.

usage: anyform COMMAND [options]

{commands}

  anyform run model.gguf               chat with a file
  anyform run owner/repo:Q4_K_M        chat with a model from the hub
  anyform serve model.gguf             serve it at http://127.0.0.1:11540/v1
  anyform COMMAND --help               the options of a command
  anyform --version                    the version
"""
