"""anyform plugin: speech to text and text to speech."""
