SELECT DISTINCT namespace FROM llmb.llm_backends WHERE deleted_at IS NULL
