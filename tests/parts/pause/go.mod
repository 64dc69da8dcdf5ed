module llm.athena.dev/tests/parts/pause

go 1.26.0
