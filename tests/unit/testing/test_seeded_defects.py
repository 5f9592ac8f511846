"""The conformance kit fails plugins that are wrong: each seeded defect is caught by the checks named beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

TOY = Path(__file__).parent / "toy"


@dataclass(frozen=True)
class Defect:
    """A change to one line of the sound toy, and the checks that must fail: these and no others."""

    name: str
    old: str
    new: str
    caught_by: frozenset[str]
    file: str = "backend.py"
    processes: bool = True
    """Whether the checks that start processes to look at plugin.py are made."""


def defect(name: str, old: str, new: str, *caught_by: str, file: str = "backend.py") -> Defect:
    checks = frozenset(f"test_{check}" for check in caught_by)
    return Defect(name, old, new, checks, file, processes=not old or file == "plugin.py")


def plugin_defect(name: str, old: str, new: str, *caught_by: str) -> Defect:
    return defect(name, old, new, *caught_by, file="plugin.py")


def source_defect(name: str, old: str, new: str, *caught_by: str) -> Defect:
    """In what its source finds, which no process of its own is started for."""
    return replace(plugin_defect(name, old, new, *caught_by), processes=False)


ONE_DONE = "one_done_last"
ANSWERED, ALONE = "every_input_is_answered", "an_input_is_the_same_alone_and_among_others"
LISTS, UNCHANGED, SURVIVES = (f"a_source_{what}" for what in (
    "lists_what_is_there", "changes_nothing", "survives_a_missing_folder",
))  # fmt: skip
EACH_FIND = (LISTS, "a_source_answers_alike", UNCHANGED)

DEFECTS = [
    Defect("sound", "", "", frozenset()),
    plugin_defect(
        "engine_at_top",
        "import struct",
        "import struct, toyengine",
        "import_is_light",
        "hooks_do_not_import_the_engine",
        "missing_engine_names_its_command",
    ),
    plugin_defect(
        "engine_in_a_hook",
        "def detect_format(files):",
        "def detect_format(files):\n    import toyengine",
        "hooks_do_not_import_the_engine",
    ),
    plugin_defect(
        "web_framework_at_top",
        "import struct",
        "import struct, fastapi",
        "import_is_light",
        "hooks_do_not_import_the_engine",
    ),
    plugin_defect(
        "kernel_at_top",
        "import struct",
        "import struct\nimport anyform.kernel.router",
        "import_is_light",
        "hooks_do_not_import_the_engine",
    ),
    plugin_defect(
        "misspelt_hook",
        "def _engine():",
        "@hookimpl\ndef find_device():\n    return []\n\n\ndef _engine():",
        "signatures_equal_the_specs",
    ),
    plugin_defect(
        "hook_without_its_mark",
        "def _engine():",
        "def find_devices():\n    return []\n\n\ndef _engine():",
        "signatures_equal_the_specs",
    ),
    plugin_defect(
        "unknown_argument",
        "def probe_backend(backend):",
        "def probe_backend(backend, gpu):",
        "signatures_equal_the_specs",
        "missing_engine_names_its_command",
        "probe_tells_the_truth",
    ),
    plugin_defect("no_contract", "ANYFORM_CONTRACT = 1", "", "contract_is_stated"),
    plugin_defect(
        "no_validate",
        "@hookimpl\ndef validate",
        "def validate",
        "a_format_is_whole",
        "signatures_equal_the_specs",
        "truncated_files_are_critical",
        "random_files_are_not_trusted",
    ),
    plugin_defect("install_not_said", "install=INSTALL", 'install=""', "backends_are_stated"),
    plugin_defect(
        "detect_raises_on_short_files",
        "    return name.endswith(",
        '    return name.endswith(".toy") and struct.unpack("<I", files.head(name)[:4]) and name.endswith(',
        "empty_files_are_not_trusted",
        "random_files_are_not_trusted",
    ),
    plugin_defect(
        "claims_strangers",
        'name.endswith(".toy") and files.head(name)[:4] == b"TOY1"',
        'name.endswith((".toy", ".bin"))',
        "strangers_are_not_claimed",
    ),
    plugin_defect(
        "detect_reads_the_disk",
        'files.head(name)[:4] == b"TOY1"',
        '(files.path / name).read_bytes()[:4] == b"TOY1"',
        "detection_needs_no_folder",
    ),
    plugin_defect(
        "truncation_goes_unnoticed",
        "if size == promised and _header(head):",
        "if head:",
        "truncated_files_are_critical",
        "random_files_are_not_trusted",
    ),
    plugin_defect("validate_raises_on_short_files", " if len(head) >= 8 else 8", "", "truncated_files_are_critical"),
    plugin_defect("calls_sound_files_broken", "if size == promised and", "if size < promised and", "samples_are_sound"),
    plugin_defect("constant_estimate", "bytes_per_token=16", "bytes_per_token=0", "estimate_grows_with_context"),
    plugin_defect(
        "facts_not_for_the_wire",
        'extra={"layers": 2}',
        'extra={"layers": {2}}',
        "facts_survive_the_wire",
        "missing_engine_names_its_command",
    ),
    plugin_defect(
        "facts_change_on_the_wire",
        'extra={"layers": 2}',
        'extra={"layers": (2,)}',
        "facts_survive_the_wire",
        "missing_engine_names_its_command",
    ),
    plugin_defect(
        "missing_engine_raises_import_error",
        "except ImportError as",
        "except KeyError as",
        "missing_engine_names_its_command",
    ),
    plugin_defect(
        "missing_engine_names_no_command", "Install it: {INSTALL}", "Install it.", "missing_engine_names_its_command"
    ),
    source_defect("source_without_a_word", 'name = "toystore"', 'name = "Toy Store"', "sources_are_stated"),
    source_defect("source_called_as_ours", 'name = "toystore"', 'name = "ollama"', "sources_are_stated"),
    source_defect("source_names_what_is_gone", "Place(path=path)", 'Place(path=path.with_suffix(".x"))', LISTS),
    source_defect(
        "source_names_a_file_that_is_gone", "Place(path=path)", 'Place(path=path.parent, files=("x",))', LISTS
    ),
    source_defect("source_leads_outside", "Place(path=path)", 'Place(path=path.parent, skip=("../x",))', LISTS),
    source_defect("source_yields_paths", "Place(path=path)", "path", LISTS),
    source_defect("source_yields_text_for_a_path", "Place(path=path)", "Place(path=str(path))", LISTS),
    source_defect("source_guesses_a_digest", "Place(path=path)", 'Place(path=path, digests={"m.toy": "1"})', LISTS),
    source_defect("source_says_no_json", "Place(path=path)", 'Place(path=path, about={"size": {1}})', LISTS),
    source_defect("source_finds_nothing", "if self.folder.is_dir():", "if self.folder.is_file():", LISTS),
    source_defect(
        "source_never_ends",
        'sorted(self.folder.glob("*.toy"))',
        'iter(lambda: self.folder / "m.toy", None)',
        *EACH_FIND,
    ),
    source_defect(
        "source_hangs",
        "                yield Place(path=path)",
        "                yield Place(path=path)\n            __import__('threading').Event().wait()",
        *EACH_FIND,
    ),
    source_defect(
        "source_raises_on_a_file",
        'sorted(self.folder.glob("*.toy"))',
        '[next((self.folder / "m.toy").iterdir())]',
        *EACH_FIND,
    ),
    source_defect(
        "source_answers_once",
        "def find(self):",
        "def find(self, seen=set()):\n"
        "        if str(self.folder) in seen:\n            return\n        seen.add(str(self.folder))",
        "a_source_answers_alike",
    ),
    source_defect(
        "source_writes_an_index",
        "if self.folder.is_dir():",
        'if self.folder.is_dir() and (self.folder / "index").write_text("1"):',
        UNCHANGED,
    ),
    source_defect(
        "source_writes_elsewhere",
        "if self.folder.is_dir():",
        'if self.folder.is_dir() and Path(__file__).with_name("index").write_text("1"):',
        UNCHANGED,
    ),
    source_defect(
        "source_makes_its_folder",
        "        if self.folder.is_dir():",
        "        self.folder.mkdir(exist_ok=True)\n        if self.folder.is_dir():",
        UNCHANGED,
        SURVIVES,
    ),
    source_defect("source_needs_its_folder", "if self.folder.is_dir():", "if list(self.folder.iterdir()):", SURVIVES),
    plugin_defect(
        "engine_in_a_source",
        "def find(self):",
        "def find(self):\n        import toyengine",
        "hooks_do_not_import_the_engine",
    ),
    defect(
        "no_done",
        "        yield Done(finishes=(Finish(),))",
        "        yield Text(text='')",
        ONE_DONE,
    ),
    defect("two_done", "yield Done(finishes=(Finish(),))", "yield from [Done(finishes=(Finish(),))] * 2", ONE_DONE),
    defect(
        "an_event_after_done",
        "yield Done(finishes=(Finish(),))",
        "yield from [Done(finishes=(Finish(),)), Text(text='p.s.')]",
        ONE_DONE,
    ),
    defect("done_without_finishes", "yield Done(finishes=(Finish(),))", "yield Done()", ONE_DONE),
    defect(
        "no_progress", 'yield Progress(stage="prompt", total=len(words))', "yield Text(text='')", "progress_comes_first"
    ),
    defect("ignores_stop", "if stop.is_set():", "if not words:", "stop_before_the_start", "stop_in_the_middle"),
    defect(
        "looks_at_stop_only_once",
        "        for word in itertools.islice(spoken, self._context - len(words)):\n            if stop.is_set():",
        "        asked = stop.is_set()\n"
        "        for word in itertools.islice(spoken, self._context - len(words)):\n            if asked:",
        "stop_in_the_middle",
    ),
    defect(
        "second_close_raises",
        "self._closed = True",
        "self._slots = self._slots.release() if self._slots else 1 / 0",
        "close_twice",
    ),
    defect("answers_when_closed", "if self._closed:", "if not self:", "close_twice"),
    defect(
        "cuts_the_prompt",
        "words = job.prompt.split()",
        "words = job.prompt.split()[:9]",
        "too_long_a_prompt_is_refused",
    ),
    defect(
        "refuses_without_numbers",
        "prompt_tokens=len(words), context=self._context",
        "",
        "too_long_a_prompt_is_refused",
    ),
    defect("swallows_unknown_options", "if plan.settings.options:", "if not plan:", "an_invalid_option_is_refused"),
    defect("does_every_task", "if job.task not in TASKS:", 'if job.task == "x":', "a_task_it_does_not_do_is_refused"),
    defect("leaves_out_an_input", "enumerate(job.inputs)", "enumerate(job.inputs[:2])", ANSWERED, ALONE),
    defect("answers_an_input_twice", "enumerate(job.inputs)", "enumerate(2 * job.inputs)", ANSWERED),
    defect("vector_of_another_length", "dimensions=2", "dimensions=3", ANSWERED),
    defect("score_without_its_label", 'labels=("long", "short")', 'labels=("long",)', ANSWERED),
    defect(
        "a_vector_that_is_no_number",
        "len(text)), 1.0)",
        "len(text)), float('nan'))",
        ANSWERED,
        "events_survive_the_wire",
    ),
    defect("an_input_hangs_on_its_neighbours", "float(len(text))", "float(len(text) + len(job.inputs))", ALONE),
    defect(
        "sees_no_pictures_and_does_not_say_so",
        "isinstance(text, str)",
        "text",
        "pictures_that_it_cannot_see_are_refused",
    ),
    defect(
        "loses_its_places",
        '        with self._slots:\n            yield Progress(stage="prompt", total=len(words))\n'
        "            yield from self._answer(job, words, stop)",
        '        self._slots.acquire()\n        yield Progress(stage="prompt", total=len(words))\n'
        "        yield from self._answer(job, words, stop)\n        self._slots.release()",
        "an_abandoned_job_frees_its_place",
    ),
    defect(
        "one_at_a_time",
        "threading.Semaphore(self.parallel)",
        "threading.Semaphore(1)",
        "a_second_job_does_not_wait_for_the_first",
    ),
]


CHECK = """
class Test_{name}(PluginConformance):
    plugin = "{name}"
    module = "toy_{name}.plugin"
    where = ("here",)
    settings = Settings(context=500)
    wait_s = stop_s = 3.0

    def samples(self, folder):
        header = b'{{"layers": 2, "words": "a few more bytes"}}'
        (folder / "m").mkdir()
        (folder / "m" / "m.toy").write_bytes(b"TOY1" + len(header).to_bytes(4, "little") + header)
        return [folder / "m"]

    def source(self, folder):
        if folder.exists():
            (folder / "m.toy").write_bytes(b"TOY1")
        return importlib.import_module(self.module).Store(folder)
"""

SAME_MODULE = """
    test_import_is_light = test_hooks_do_not_import_the_engine = test_missing_engine_names_its_command = None
"""
"""The checks that start processes, for the defects that they would not see."""


def plant(folder: Path, seeded: Defect) -> None:
    """Write the toy with one defect as the package `toy_<name>`."""
    package = folder / f"toy_{seeded.name}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for file in ("plugin.py", "backend.py"):
        code = (TOY / f"{file}.txt").read_text()
        if file == seeded.file and seeded.old:
            assert seeded.old in code, f"{seeded.name}: its line is no longer in the toy"
            code = code.replace(seeded.old, seeded.new)
        (package / file).write_text(code)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """For each defect the checks that failed, with what they said; all from one run of pytest."""
    folder = tmp_path_factory.mktemp("seeded")
    (folder / "toyengine.py").write_text('VERSION = "1.0"\n')
    (folder / "toyengine-1.0.dist-info").mkdir()
    (folder / "toyengine-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toyengine\nVersion: 1.0\n"
    )
    test = (
        "import importlib\nfrom anyform.contract.facts import Settings\nfrom anyform.testing import PluginConformance\n"
    )
    for seeded in DEFECTS:
        plant(folder, seeded)
        test += CHECK.format(name=seeded.name) + ("" if seeded.processes else SAME_MODULE)
    (folder / "test_all.py").write_text(test)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    (folder / "home").mkdir()
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [*command, f"--junitxml={report}", "test_all.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **dict.fromkeys(("HOME", "USERPROFILE"), str(folder / "home"))},
        capture_output=True,
        check=False,
        timeout=300,
    )
    return collect(report)


def collect(report: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {seeded.name: {} for seeded in DEFECTS}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["classname"].partition("Test_")[2]
        for outcome in (*case.iter("failure"), *case.iter("error")):
            found[name][case.attrib["name"].partition("[")[0]] = outcome.attrib["message"]
    return found


@pytest.mark.parametrize("seeded", DEFECTS, ids=lambda seeded: seeded.name)
def test_each_defect_is_caught_by_its_checks_alone(failed: dict[str, dict[str, str]], seeded: Defect) -> None:
    assert set(failed[seeded.name]) == seeded.caught_by, failed[seeded.name]


def test_each_failure_says_what_to_do(failed: dict[str, dict[str, str]]) -> None:
    said = [text for name, checks in failed.items() if name != "unknown_argument" for text in checks.values()]
    assert said
    assert [message for message in said if not message.startswith("AssertionError: ")] == []
