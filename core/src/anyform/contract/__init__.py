"""All that a plugin may import from anyform (a `backend.py` may also import `anyform.text`)."""
