"""What a folder's image processor and tokenizer make of pictures and of texts about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Invalid, LoadFailed
from anyform.picture import pixels
from anyform.picture.texts import Texts
from anyform.text.words import whole
from anyform_hf_transformers import weights
from anyform_hf_transformers.backend import transformers

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading


class ProcessorPixels(pixels.Pixels):
    """A folder's image processor, as transformers reads it. May be called by several threads."""

    def __init__(self, loading: Loading) -> None:
        """Raises LoadFailed."""
        super().__init__(loading.options.max_pixels)
        try:
            # on Pillow and numpy alone: the other kind needs torchvision, and would compute in the caller's thread
            self._processor = transformers.AutoImageProcessor.from_pretrained(
                weights.folder(loading.plan),
                backend="pil",
                local_files_only=True,
                trust_remote_code=loading.options.trust_remote_code,
            )
        except (ValueError, KeyError, OSError, ImportError, TypeError, AttributeError) as error:
            raise LoadFailed(
                f"transformers does not read the image processor of {loading.plan.model}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            ) from error

    def prepare(self, image: Any, place: str) -> dict[str, Any]:
        """The arrays of a PIL.Image in RGB. Raises Invalid."""
        try:
            made = self._processor(images=image, return_tensors="np")
        except (ValueError, MemoryError) as error:
            raise Invalid(f"{place} is a picture that the model's processor refuses: {error}.") from error
        return {name: made[name][0] for name in self._processor.model_input_names if name in made}


def texts(tokenizer: Any, size: int, limit: int, *, padded: bool = False) -> Texts:
    """Those that one of transformers' tokenizers reads; see `Texts`."""
    pad = tokenizer.pad_token_id

    def tokenize(text: str) -> Any:
        return tokenizer(whole(text), return_token_type_ids=False, return_attention_mask=False)["input_ids"]

    masked = "attention_mask" in tokenizer.model_input_names
    return Texts(tokenize, size, limit, pad=0 if pad is None else pad, masked=masked, padded=padded)
