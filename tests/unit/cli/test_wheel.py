"""Distributions of the same module, as they lie in a folder of installed ones: real metadata, and no engine."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from anyform.cli import doctor, wheel
from anyform.cli.wheel import Clash, Loss
from anyform.contract.facts import BackendInfo
from anyform.kernel.choice import EngineState


def install(site: Path, name: str, *files: str, version: str = "1.0") -> Path:
    """Lay *files* and the metadata of a wheel called *name* into *site*, as an installer does: over what lies there."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    record = io.StringIO()
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(f"# of {name}\n")
        csv.writer(record).writerow([file, "sha256=x", 1])
    (info / "RECORD").write_text(record.getvalue())
    return info


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    install(folder, "numpy", "numpy/__init__.py", "numpy/linalg/__init__.py")
    install(folder, "onnxruntime", "onnxruntime/__init__.py", "onnxruntime/capi/__init__.py")
    return folder


def found(site: Path, *names: str) -> list[Clash | Loss]:
    return wheel.troubles(names or ("onnxruntime", "numpy", "absent"), [str(site)])


def test_a_sound_folder_has_no_trouble(site: Path) -> None:
    assert found(site) == []


def test_two_wheels_of_one_module_are_told_with_the_commands_that_mend_it(site: Path) -> None:
    install(site, "onnxruntime-gpu", "onnxruntime/__init__.py", "onnxruntime/capi/__init__.py", version="1.2")
    [clash] = found(site)
    assert clash == Clash(modules=("onnxruntime",), distributions=("onnxruntime", "onnxruntime-gpu"))
    assert "onnxruntime and onnxruntime-gpu are both installed" in clash.text
    assert "`pip uninstall -y onnxruntime onnxruntime-gpu`" in clash.do
    assert clash.do.endswith("`pip install onnxruntime` or `pip install onnxruntime-gpu`.")


def test_three_are_one_trouble_and_each_module_is_named(site: Path) -> None:
    for name in ("twin-a", "twin-b", "twin-c"):
        install(site, name, "twin/__init__.py", "twin_native/__init__.py")
    [clash] = found(site, "twin-b")
    assert clash == Clash(modules=("twin", "twin_native"), distributions=("twin-a", "twin-b", "twin-c"))
    assert "are all installed" in clash.text


def test_names_are_compared_as_pip_does(site: Path) -> None:
    install(site, "Onnxruntime_GPU", "onnxruntime/__init__.py")
    assert len(found(site, "onnxruntime.gpu")) == 1


def test_what_no_backend_needs_is_not_looked_at(site: Path) -> None:
    for name in ("twin-a", "twin-b"):
        install(site, name, "twin/__init__.py")
    assert found(site) == []


def test_tests_that_wheels_bring_by_mistake_are_no_trouble(site: Path) -> None:
    for name in ("twin-a", "twin-b"):
        install(site, name, f"{name[-1]}/__init__.py", "tests/__init__.py", "docs/__init__.py")
    assert found(site, "twin-a", "twin-b") == []


def test_a_shared_namespace_is_no_trouble(site: Path) -> None:
    install(site, "vendor-math", "vendor/math/__init__.py")
    install(site, "vendor-sound", "vendor/sound/__init__.py")
    assert found(site, "vendor-math") == []


def test_the_same_module_in_another_folder_hides_nothing_from_uninstalling(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    install(other, "onnxruntime-gpu", "onnxruntime/__init__.py")
    assert wheel.troubles(["onnxruntime"], [str(site), str(other)]) == []


def test_a_module_that_was_uninstalled_with_another_wheel_is_told(site: Path) -> None:
    (site / "onnxruntime" / "__init__.py").unlink()
    [loss] = found(site)
    assert loss == Loss(distribution="onnxruntime", version="1.0", modules=("onnxruntime",))
    assert loss.do == "`pip install --force-reinstall --no-deps onnxruntime==1.0`"


def test_metadata_that_is_none_is_stepped_over(site: Path) -> None:
    (site / "broken-1.0.dist-info").mkdir()
    (site / "empty-1.0.dist-info").mkdir()
    (site / "empty-1.0.dist-info" / "METADATA").write_text("")
    assert found(site) == []


def test_doctor_calls_it_broken(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "onnxruntime-gpu", "onnxruntime/__init__.py")
    monkeypatch.syspath_prepend(site)
    info = BackendInfo(name="twin", reads=(), tasks=(), engine=("onnxruntime",))
    [check] = doctor._wheels([EngineState(plugin="twin", backend=info, versions={"onnxruntime": "1.0"})])
    assert (check.state, check.about) == ("broken", "wheels")
    assert "onnxruntime-gpu" in check.text
    assert "pip uninstall" in check.do
