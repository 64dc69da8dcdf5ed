UPDATE llmb.llm_backends SET deleted_at = now(), updated_at = now()
WHERE namespace = %(namespace)s AND deleted_at IS NULL AND epoch <= %(epoch)s
AND uid <> ALL (%(keep)s)
