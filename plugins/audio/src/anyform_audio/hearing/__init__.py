"""Speech to text: what surrounds faster-whisper."""
