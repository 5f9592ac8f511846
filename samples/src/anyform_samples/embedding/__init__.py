"""The sample encoder: finds the section of anyform's documentation that answers a question; and how it is trained."""
