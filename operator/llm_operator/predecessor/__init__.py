"""The way over from the predecessor: its table and its metrics -> LLMBackends and usage records.

    record.predecessor, ask -> rows -> convert -> resources, findings -> write
    record.predecessor -> measured -> backfill -> llm_usage, its hourly sums

Reading is lenient and writing strict. What can't be said in a resource is listed and kept beside
it; a value that may be a secret is neither printed nor written. Nothing here changes the
predecessor, and nothing is applied to a cluster.
"""
