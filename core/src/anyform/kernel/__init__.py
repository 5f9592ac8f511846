"""Decides, and can say why. Imports the contract only; starts no process and speaks no protocol."""
