"""The folder that onnxruntime-genai opens in place of a model's own: its graphs, and a genai_config.json of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from anyform.pretrained.layout import COMPANIONS
from anyform_onnx.layout import GENAI_CONFIG
from anyform_onnx.manifest import LIBRARY


class Stage:
    """A folder with links to the files of a model's, for as long as that is loaded: grammars have its tokenizer read.

    Its genai_config.json is one that was judged, so that nothing hangs on how the engine parses the model's own. Other
    JSON is left out, of which a manifest.json would lead the engine to a further genai_config.json, and so are native
    libraries.
    """

    def __init__(self, folder: Path, content: Mapping[str, Any], home: Path) -> None:
        """*content*: of genai_config.json. *home*: where the tokenizer lies, which may be above. Raises OSError."""
        self._made = Path(mkdtemp(prefix="anyform-genai-"))
        self.path = self._made
        """What to open. Where the system gives no links (Windows, without the right to them) the model's own folder."""
        try:
            (self._made / GENAI_CONFIG).write_text(json.dumps(content), encoding="utf-8")
            if not self._link(folder.absolute(), home.absolute()):
                self.path = folder
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove it, but for what the links lead to."""
        shutil.rmtree(self._made, ignore_errors=True)

    def _link(self, folder: Path, home: Path) -> bool:
        others = [one for one in folder.iterdir() if one.suffix.lower() != ".json" and not LIBRARY.search(one.name)]
        beside = [place / name for place in dict.fromkeys((folder, home)) for name in sorted(COMPANIONS)]
        for one in (*others, *(one for one in beside if one.is_file())):
            if not (self._made / one.name).is_symlink():
                try:
                    (self._made / one.name).symlink_to(one, target_is_directory=one.is_dir())
                except (OSError, NotImplementedError):
                    return False
        return True
