"""Plugins that come with anyform, found through entry points like any other."""
