"""What runs in the environment of an export, where anyform is not installed."""
