"""What an LLMBackend is: its values, its rules, and the way from a manifest to them.

    manifest (API server or folder) -> parse -> model.Resource -> plan

Nothing in here does I/O or knows where a manifest came from.
"""
