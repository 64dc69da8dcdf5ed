SELECT uid, generation FROM llmb.llm_backends WHERE namespace = %s AND deleted_at IS NULL
