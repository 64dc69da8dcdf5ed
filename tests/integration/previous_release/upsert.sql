INSERT INTO llmb.llm_backends AS stored (uid, namespace, name, generation, model_name, backend_type, endpoint_url, enabled, priority, max_tokens, temperature_default, timeout_seconds, keep_alive_seconds, description, spec, epoch)
SELECT given.uid, given.namespace, given.name, given.generation, given.model_name, given.backend_type, given.endpoint_url, given.enabled, given.priority, given.max_tokens, given.temperature_default, given.timeout_seconds, given.keep_alive_seconds, given.description, given.spec, %(epoch)s
FROM jsonb_to_recordset(%(rows)s) AS given (uid text, namespace text, name text, generation bigint, model_name text, backend_type text, endpoint_url text, enabled boolean, priority bigint, max_tokens bigint, temperature_default double precision, timeout_seconds bigint, keep_alive_seconds bigint, description text, spec jsonb)
LEFT JOIN llmb.llm_backends AS old ON old.uid = given.uid
WHERE (
    old.uid IS NULL
    OR old.generation <= given.generation AND old.epoch <= %(epoch)s
    AND (old.deleted_at IS NOT NULL OR (old.uid, old.namespace, old.name, old.generation, old.model_name, old.backend_type, old.endpoint_url, old.enabled, old.priority, old.max_tokens, old.temperature_default, old.timeout_seconds, old.keep_alive_seconds, old.description, old.spec) IS DISTINCT FROM (given.uid, given.namespace, given.name, given.generation, given.model_name, given.backend_type, given.endpoint_url, given.enabled, given.priority, given.max_tokens, given.temperature_default, given.timeout_seconds, given.keep_alive_seconds, given.description, given.spec))
) AND NOT EXISTS (
    SELECT FROM llmb.llm_backends AS other
    WHERE other.namespace = given.namespace AND other.name = given.name
    AND other.uid <> given.uid AND other.deleted_at IS NULL
)
ORDER BY given.name
ON CONFLICT (uid) DO UPDATE
SET namespace = EXCLUDED.namespace, name = EXCLUDED.name, generation = EXCLUDED.generation, model_name = EXCLUDED.model_name, backend_type = EXCLUDED.backend_type, endpoint_url = EXCLUDED.endpoint_url, enabled = EXCLUDED.enabled, priority = EXCLUDED.priority, max_tokens = EXCLUDED.max_tokens, temperature_default = EXCLUDED.temperature_default, timeout_seconds = EXCLUDED.timeout_seconds, keep_alive_seconds = EXCLUDED.keep_alive_seconds, description = EXCLUDED.description, spec = EXCLUDED.spec, epoch = EXCLUDED.epoch, updated_at = now(), deleted_at = NULL
WHERE stored.generation <= EXCLUDED.generation AND stored.epoch <= EXCLUDED.epoch
