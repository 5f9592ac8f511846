"""A toolkit for sound: files of any codec to samples and back. It knows the contract only; backend.py imports PyAV."""
