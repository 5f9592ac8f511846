"""Pictures from text with diffusers, for anyform."""
