"""What is made of a picture before a graph sees it: against transformers' processors, and by the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import LoadFailed, Unsupported

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnxruntime")
preprocess = pytest.importorskip("anyform_onnx.preprocess")
pytestmark = pytest.mark.engine

SIZES = ((40, 30), (33, 64), (224, 224), (300, 201), (7, 9), (641, 480), (3, 400))
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("ViTImageProcessor", {}),
    ("ViTFeatureExtractor", {"size": 224, "image_mean": [0.485, 0.456, 0.406], "resample": 3}),
    ("ViTImageProcessorFast", {"size": {"height": 48, "width": 32}, "rescale_factor": 0.5, "do_normalize": False}),
    ("ViTImageProcessor", {"do_resize": False, "do_rescale": False}),
    ("ViTImageProcessor", {"size": {"shortest_edge": 64, "longest_edge": 100}}),
    ("CLIPImageProcessor", {}),
    ("CLIPFeatureExtractor", {"size": 224, "crop_size": 224, "do_convert_rgb": True}),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 31}, "crop_size": {"height": 33, "width": 32}}),
    ("ChineseCLIPImageProcessor", {}),
    ("SiglipImageProcessor", {"size": {"height": 56, "width": 56}}),
    ("BitImageProcessor", {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406], "crop_size": 224}),
    ("BitImageProcessor", {"do_resize": False, "crop_size": {"height": 50, "width": 50}}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
    ("ConvNextFeatureExtractor", {"size": 224, "crop_pct": 0.95, "resample": 2}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    ("MobileNetV1ImageProcessor", {}),
    ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": {"height": 30, "width": 28}}),
    ("MobileViTImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}),
    ("DeiTImageProcessor", {}),
    ("BeitImageProcessor", {"do_center_crop": True}),
    ("EfficientNetImageProcessor", {"size": {"height": 60, "width": 60}}),
    ("EfficientNetImageProcessor", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False}),
    ("LevitImageProcessor", {}),
    ("PoolFormerImageProcessor", {}),
    ("PoolFormerImageProcessor", {"size": {"height": 60, "width": 60}, "crop_pct": 0.8, "crop_size": 56}),
    ("PvtImageProcessor", {"image_std": 0.3}),
    ("BlipImageProcessor", {"size": {"height": 96, "width": 96}}),
]


def drawn(size: tuple[int, int], seed: int = 0) -> Any:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def followed(said: dict[str, Any], image: Any) -> Any:
    return preprocess.read(said, "", "m").follow(image)


@pytest.mark.parametrize(("name", "said"), CONFIGS, ids=lambda one: one if isinstance(one, str) else "")
def test_pictures_become_what_transformers_makes_of_them(name: str, said: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    short = next(name.removesuffix(end) for end in ("ImageProcessorFast", "ImageProcessor", "FeatureExtractor")
                 if name.endswith(end))  # fmt: skip
    theirs = getattr(transformers, f"{short}ImageProcessorPil")(**said)
    ours = preprocess.read({"image_processor_type": name, **said}, "", "m")
    for size in SIZES:
        image = drawn(size)
        expected = theirs(images=image, return_tensors="np")["pixel_values"][0]
        found = ours.follow(image)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert np.abs(found - expected.astype(np.float32)).max() <= 1e-6 * max(np.abs(expected).max(), 1)


def test_dinov3_scales_numbers_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    said = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 48, "width": 64}}
    for size in SIZES:
        image = drawn(size)
        numbers = torch.from_numpy(np.array(image)).movedim(-1, 0)[None] / 255
        scaled = torch.nn.functional.interpolate(numbers, (48, 64), mode="bilinear", antialias=True)[0].numpy()
        mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
        assert np.abs(followed(said, image) - (scaled - mean) / deviation).max() < 1e-5


def test_by_the_numbers() -> None:
    grey = Image.new("RGB", (10, 10), (255, 51, 0))
    plain = {"image_processor_type": "ViTImageProcessor", "size": 4}
    assert followed(plain, grey).tolist() == [[[pytest.approx(colour)] * 4] * 4 for colour in (1.0, -0.6, -1.0)]
    assert followed({**plain, "do_rescale": False, "do_normalize": False}, grey)[:, 0, 0].tolist() == [255, 51, 0]
    padded = followed(
        {**plain, "do_resize": False, "do_center_crop": True, "crop_size": 13, "do_normalize": False}, grey
    )
    assert padded.shape == (3, 13, 13)
    assert (padded[0] > 0).sum() == 100
    mobile = {"image_processor_type": "MobileViTImageProcessor", "size": 8, "crop_size": 8}
    assert followed(mobile, grey)[:, 0, 0].tolist() == [0, pytest.approx(0.2), 1]


def test_the_processor_is_known_by_the_kind_of_model_where_the_file_does_not_name_it() -> None:
    assert preprocess.read({}, "resnet", "m").family == "ConvNext"
    assert preprocess.read({"feature_extractor_type": "DeiTFeatureExtractor"}, "vit", "m").family == "DeiT"
    with pytest.raises(Unsupported, match="does not say which image processor"):
        preprocess.read({}, "other", "m")


@pytest.mark.parametrize(
    "name", ["Siglip2ImageProcessor", "TimmWrapperImageProcessor", "Qwen2VLImageProcessorFast", "X"]
)
def test_other_processors_are_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match=f"names the image processor {name}; Beit, "):
        preprocess.read({"image_processor_type": name}, "vit", "m")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "big"), ("size", {"height": 3}), ("size", {"longest_edge": 3}), ("size", {"shortest_edge": 0}),
        ("size", {"height": 1 << 40, "width": 3}), ("size", [1]), ("crop_size", {"shortest_edge": 3}),
        ("crop_size", -3), ("image_mean", [0.5, 0.5]), ("image_mean", ["a", "b", "c"]), ("image_std", [0, 1, 1]),
        ("image_std", "x"), ("resample", 17), ("resample", "cubic"), ("rescale_factor", "x"), ("rescale_factor", -1),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_named(name: str, value: Any) -> None:
    with pytest.raises(LoadFailed, match=f"preprocessor_config.json of m has {name} = "):
        preprocess.read({"image_processor_type": "CLIPImageProcessor", name: value}, "", "m")


def test_a_strip_that_would_become_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="scaled, it would be 204800 x 1024 pixels"):
        followed({"image_processor_type": "CLIPImageProcessor", "size": 1024}, Image.new("RGB", (2000, 10)))
