"""Single files: the same pictures as the folder form, with configurations of this machine alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("torch")
pytest.importorskip("anyform_samples.painting_checkpoint", exc_type=ImportError)

from anyform.contract.errors import Fault, Invalid, InvalidModel, LoadFailed
from anyform_samples import painting_checkpoint

pytestmark = pytest.mark.engine
FAMILIES = ("sd", "sdxl", "sd3", "flux")
SMALL = ("*.json", "*.txt", "*.model")
"""What is to be fetched, by the sentence that says so."""


@pytest.fixture(autouse=True)
def small_flux(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversion of Flux in diffusers has the width of the published model in it: here it has the tiny one's."""
    from diffusers.loaders import single_file_model

    known = single_file_model.SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    converts: Any = known["checkpoint_mapping_fn"]
    code = converts.__code__
    assert 3072 in code.co_consts
    narrow = code.replace(co_consts=tuple(32 if one == 3072 else one for one in code.co_consts))
    monkeypatch.setitem(known, "checkpoint_mapping_fn", type(converts)(narrow, converts.__globals__))


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Hugging Face cache of this test's own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def files(gallery: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A single file of a family: in a folder of its own, written once."""
    home = tmp_path_factory.mktemp("files")

    def written(family: str, *parts: str) -> Path:
        place = home / "-".join((family, *parts)) / f"tiny-{family}.safetensors"
        if not place.is_file():
            place.parent.mkdir()
            painting_checkpoint.write_checkpoint(family, place, parts=parts or painting_checkpoint.PARTS)
        return place

    return written


def small(folder: Path, place: Path, *more: str) -> Path:
    """The files of *folder* that are no weights, and *more*, in *place*."""
    for pattern in (*SMALL, *more):
        for file in folder.rglob(pattern):
            target = place / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    return place


def pipeline(kit: Any, file: Path, **options: Any) -> Any:
    """What the loader makes of *file*, in main memory."""
    from anyform_diffusers import checkpointloading
    from anyform_diffusers import options as load_options

    plan = kit.plan(file, **options)
    return checkpointloading.read(plan, load_options.read(plan.settings.options), "float32")


def aligned(pipe: Any) -> Any:
    """With weights in memory of its own: read from a file they begin at any byte, by which torch rounds otherwise."""
    import torch

    for part in pipe.components.values():
        for weight in part.parameters() if isinstance(part, torch.nn.Module) else ():
            weight.data = weight.data.clone()
    return pipe


def numbers(pipe: Any) -> Any:
    import torch

    pipe.set_progress_bar_config(disable=True)
    seeded = torch.Generator("cpu").manual_seed(3)
    return pipe("a red cat", num_inference_steps=2, width=32, height=32, generator=seeded, output_type="np").images


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_folder_form(kit: Any, gallery: Any, files: Any, tmp_path: Path, family: str) -> None:
    import diffusers
    import numpy
    import torch

    config = small(gallery.folder(family), tmp_path / "config")
    assert not list(config.rglob("*.safetensors"))
    ours = pipeline(kit, files(family), config=str(config)).pipe
    theirs = diffusers.DiffusionPipeline.from_pretrained(gallery.folder(family), local_files_only=True)
    assert type(ours) is type(theirs)
    for name, part in theirs.components.items():
        if isinstance(part, torch.nn.Module):
            mine = getattr(ours, name).state_dict()
            assert mine.keys() == part.state_dict().keys()
            assert all(torch.equal(mine[weight], value) for weight, value in part.state_dict().items()), name
            assert not getattr(ours, name).training
    assert numpy.array_equal(numbers(aligned(ours)), numbers(aligned(theirs)))


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_it_paints_as_a_model_of_its_own(kit: Any, gallery: Any, files: Any, tmp_path: Path, family: str) -> None:
    """In all three ways, through the painter: the folder's pictures but for the last bit of a number."""
    file = tmp_path / f"{family}.safetensors"
    shutil.copyfile(files(family), file)
    config = small(gallery.folder(family), tmp_path / family)
    painter = kit.painter(file)
    assert any(str(config) in note for note in painter.notes)
    small_one = {"width": 32, "height": 32}
    picture, mask = kit.picture(side=32), kit.mask(side=32)
    for asked in ({}, {"picture": picture, "strength": 0.7}, {"picture": picture, "mask": mask}):
        ours, theirs = (kit.pixels(kit.paint(one, **small_one, **asked)) for one in (painter, gallery.painter(family)))
        assert abs(ours.astype(int) - theirs).max() <= 1
    painter.free()


class Found:
    """Places where configurations are looked for."""

    @staticmethod
    def own(folder: Path, file: Path, hub: Path) -> Path:
        return small(folder, file.parent)

    @staticmethod
    def called_like_it(folder: Path, file: Path, hub: Path) -> Path:
        small(folder, file.parent / "another")
        return small(folder, file.with_suffix(""))

    @staticmethod
    def beside(folder: Path, file: Path, hub: Path) -> Path:
        return small(folder, file.parent / "v1-5")

    @staticmethod
    def cached(folder: Path, file: Path, hub: Path) -> Path:
        home = hub / "models--stable-diffusion-v1-5--stable-diffusion-v1-5"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text("b" * 40)
        small(folder, home / "snapshots" / ("a" * 40))
        return small(folder, home / "snapshots" / ("b" * 40))


@pytest.mark.parametrize("place", ["own", "called_like_it", "beside", "cached"])
def test_configurations_are_found(
    kit: Any, gallery: Any, files: Any, tmp_path: Path, empty_cache: Path, place: str
) -> None:
    file = tmp_path / "models" / "tiny.safetensors"
    file.parent.mkdir()
    shutil.copyfile(files("sd"), file)
    where = getattr(Found, place)(gallery.folder("sd"), file, empty_cache)
    assert f"configurations of {where}" in pipeline(kit, file).notes


@pytest.mark.parametrize(
    ("family", "repository"),
    [
        ("sd", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("sd3", "stabilityai/stable-diffusion-3-medium-diffusers"),
        ("flux", "black-forest-labs/FLUX.1-dev"),
    ],
)
def test_without_any_it_says_what_to_fetch(
    kit: Any, files: Any, offline: list[str], family: str, repository: str
) -> None:
    with pytest.raises(InvalidModel) as failed:
        pipeline(kit, files(family))
    said = str(failed.value)
    assert f'`hf download {repository} --include "*.json" "*.txt" "*.model"`' in said
    assert "MB" in said
    assert "`--option config=DIR`" in said
    assert len(said) < 500
    assert ("licence" in said) is (family in ("sd3", "flux"))
    assert not offline, "nothing is asked of the network"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom something tried to reach; nobody is reached."""
    import socket

    asked: list[str] = []

    def refused(_: Any, address: Any, *__: Any) -> None:
        asked.append(str(address))
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refused(None, address))
    return asked


def test_nothing_is_asked_of_the_network(
    kit: Any, gallery: Any, files: Any, offline: list[str], tmp_path: Path
) -> None:
    pipeline(kit, files("sd"), config=str(small(gallery.folder("sd"), tmp_path / "config")))
    assert not offline


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_a_network_alone_takes_the_rest_from_the_folder(
    kit: Any, gallery: Any, files: Any, tmp_path: Path, family: str
) -> None:
    import numpy

    config = small(gallery.folder(family), tmp_path / "config", "text_encoder*/*.safetensors", "vae/*.safetensors")
    made = pipeline(kit, files(family, "network"), config=str(config))
    assert any("vae read from there" in note for note in made.notes)
    whole = pipeline(kit, files(family), config=str(config))
    assert numpy.array_equal(numbers(aligned(made.pipe)), numbers(aligned(whole.pipe)))


def test_parts_that_are_nowhere_are_named(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    config = small(gallery.folder("flux"), tmp_path / "config", "text_encoder/*.safetensors")
    with pytest.raises(InvalidModel, match=r"weights of text_encoder_2, vae are") as failed:
        pipeline(kit, files("flux", "network"), config=str(config))
    assert '"vae/diffusion_pytorch_model.safetensors"' in str(failed.value)
    assert '"text_encoder_2/model.safetensors"' in str(failed.value)
    assert "text_encoder/" not in str(failed.value)


def test_sd3_without_its_third_encoder_is_told(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    """As its maker published it: with the two CLIPs alone, since the third is larger than all else."""
    from safetensors.torch import load_file, save_file

    file = tmp_path / "sd3_medium_incl_clips.safetensors"
    kept = {name: value for name, value in load_file(files("sd3")).items() if "t5xxl" not in name}
    save_file(kept, file)
    made = pipeline(kit, file, config=str(small(gallery.folder("sd3"), tmp_path / "config")))
    assert made.pipe.text_encoder_3 is None
    assert any("text_encoder_3" in note for note in made.notes)
    assert numbers(made.pipe).shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "has no model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "vae" / "config.json").unlink(), "vae/config.json is missing"),
        (
            lambda folder: [one.unlink() for one in (folder / "tokenizer").iterdir()],
            "tokenizer/tokenizer.json is missing",
        ),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "unet/config.json in it is no JSON object"),
        (
            lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text("[1]"),
            "scheduler_config.json in it is no JSON",
        ),
        (lambda folder: _index(folder, scheduler=["os", "system"]), "names os.system"),
        (lambda folder: _index(folder, vae=["diffusers", "loader"]), "names diffusers.loader"),
        (lambda folder: _index(folder, _class_name="FluxPipeline"), "is of FluxPipeline, not of a sd model"),
    ],
)
def test_a_folder_that_is_none_is_refused(
    kit: Any, gallery: Any, files: Any, tmp_path: Path, change: Callable[[Path], Any], said: str
) -> None:
    config = small(gallery.folder("sd"), tmp_path / "config")
    change(config)
    with pytest.raises(Invalid, match="option config") as refused:
        pipeline(kit, files("sd"), config=str(config))
    assert said in str(refused.value)


def _index(folder: Path, **changed: Any) -> None:
    import json

    place = folder / "model_index.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changed}))


def test_several_folders_beside_it_are_named(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    shutil.copyfile(files("sd"), tmp_path / "tiny.safetensors")
    for name in ("one", "two"):
        small(gallery.folder("sd"), tmp_path / name)
    small(gallery.folder("sd"), tmp_path / "broken")
    (tmp_path / "broken" / "unet" / "config.json").write_text("{")
    small(gallery.folder("flux"), tmp_path / "other")
    with pytest.raises(InvalidModel, match="Name one of them: `--option config=DIR`") as failed:
        pipeline(kit, tmp_path / "tiny.safetensors")
    assert all(str(tmp_path / name) in str(failed.value) for name in ("one", "two"))
    assert not any(str(tmp_path / name) in str(failed.value) for name in ("broken", "other"))


def test_configurations_of_another_size_are_told(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    import json

    config = small(gallery.folder("sd"), tmp_path / "config")
    unet = json.loads((config / "unet" / "config.json").read_text())
    (config / "unet" / "config.json").write_text(json.dumps({**unet, "cross_attention_dim": 64}))
    with pytest.raises(LoadFailed, match="option config"):
        pipeline(kit, files("sd"), config=str(config))


def test_guidance_that_would_be_left_out_is_told(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    import json

    config = small(gallery.folder("flux"), tmp_path / "config")
    network = json.loads((config / "transformer" / "config.json").read_text())
    (config / "transformer" / "config.json").write_text(json.dumps({**network, "guidance_embeds": False}))
    with pytest.raises(LoadFailed, match=r"a Flux like dev, and .* like schnell.*FLUX\.1-dev by the option config"):
        pipeline(kit, files("flux"), config=str(config))


def test_configurations_that_want_code_fetched_are_refused(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    import json

    config = small(gallery.folder("sd"), tmp_path / "config")
    text = json.loads((config / "text_encoder" / "config.json").read_text())
    (config / "text_encoder" / "config.json").write_text(json.dumps({**text, "attn_implementation": "evil/kernel"}))
    with pytest.raises(Invalid, match="'evil/kernel', code that would be fetched"):
        pipeline(kit, files("sd"), config=str(config))


def test_tensors_that_are_missing_are_told(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(files("sd"))
    del tensors["model.diffusion_model.out.2.bias"]
    save_file(tensors, tmp_path / "torn.safetensors")
    with pytest.raises(LoadFailed, match="lacks tensors"):
        pipeline(kit, tmp_path / "torn.safetensors", config=str(gallery.folder("sd")))


def test_a_file_that_ends_too_soon_is_told(kit: Any, gallery: Any, files: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    from anyform_diffusers import checkpointloading
    from anyform_diffusers import options as load_options

    plan = kit.plan(files("sd"), config=str(gallery.folder("sd")))
    (tmp_path / plan.match.entry).write_bytes(files("sd").read_bytes()[:100_000])
    with pytest.raises(Fault, match="cannot be read"):
        checkpointloading.read(replace(plan, path=str(tmp_path)), load_options.read(plan.settings.options), "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_halves_in_all_parts(kit: Any, gallery: Any, files: Any, dtype: str) -> None:
    import torch

    from anyform_diffusers import checkpointloading
    from anyform_diffusers import options as load_options

    plan = kit.plan(files("sd"), config=str(gallery.folder("sd")))
    pipe = checkpointloading.read(plan, load_options.read(plan.settings.options), dtype).pipe
    kinds = {weight.dtype for name in ("unet", "vae", "text_encoder") for weight in getattr(pipe, name).parameters()}
    assert kinds == {getattr(torch, dtype)}


@pytest.mark.parametrize(
    ("family", "shapes", "repository"),
    [
        ("sd", {"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)}, "stable-diffusion-inpainting"),
        ("flux", {"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "FLUX.1-schnell"),
        ("sd3", {"joint_blocks.37.x_block.mlp.fc1.weight": (9728, 2432)}, "stable-diffusion-3.5-large"),
        ("sdxl", {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,)}, "xl-base-1.0"),
    ],
)
def test_the_configurations_are_those_of_the_kind(family: str, shapes: dict[str, Any], repository: str) -> None:
    from anyform.pretrained.safetensors import Tensor
    from anyform_diffusers import checkpointloading
    from anyform_diffusers.checkpoint import Checkpoint

    tensors = [Tensor(name, "F16", shape, 0, 0) for name, shape in shapes.items()]
    assert checkpointloading._repository(family, Checkpoint(family=family), tensors).endswith(repository)
