"""Side by side with servers that are not ours."""
