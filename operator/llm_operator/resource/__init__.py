"""What an LLMBackend is: its values, its rules, and the way from a manifest to them.

    manifest (API server or folder) -> parse (check against fields, then build) -> model.Resource

`fields` is the schema as data, written in the words of `schema` with the rules of `rules` and
`urls`; crds/llmbackends.yaml says the same to the API server.

Nothing in here does I/O or knows where a manifest came from.
"""
