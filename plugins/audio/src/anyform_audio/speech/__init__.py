"""Text to speech: what surrounds Kokoro and Piper."""
