-- migrate:up

-- NB: an own schema, because a database that is moved over holds the predecessor's public.llm_backends.
CREATE SCHEMA IF NOT EXISTS llmb;

CREATE TABLE llmb.llm_backends (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid text NOT NULL UNIQUE,
    namespace text NOT NULL,
    name text NOT NULL,
    generation bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    model_name text NOT NULL,
    backend_type text NOT NULL,
    endpoint_url text,
    enabled boolean NOT NULL,
    priority bigint NOT NULL,
    max_tokens bigint,
    temperature_default double precision,
    timeout_seconds bigint NOT NULL,
    keep_alive_seconds bigint,
    description text NOT NULL,
    spec jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

COMMENT ON TABLE llmb.llm_backends IS
    'A projection of the LLMBackend resources, repaired by the operator: changes made here do not last.';
COMMENT ON COLUMN llmb.llm_backends.uid IS 'metadata.uid of the resource.';
COMMENT ON COLUMN llmb.llm_backends.generation IS 'metadata.generation of the spec in this row; it never goes back.';
COMMENT ON COLUMN llmb.llm_backends.epoch IS 'Leadership of the operator that wrote the row; it never goes back.';
COMMENT ON COLUMN llmb.llm_backends.max_tokens IS 'NULL: the resource sets no default.';
COMMENT ON COLUMN llmb.llm_backends.temperature_default IS 'NULL: the resource sets no default; 0 is a value.';
COMMENT ON COLUMN llmb.llm_backends.spec IS 'The whole spec under its field names in the resource.';
COMMENT ON COLUMN llmb.llm_backends.deleted_at IS 'Set: the resource is gone and the row is history.';

-- Names are unique among live rows only: a resource made anew under an old name has a new uid.
CREATE UNIQUE INDEX llm_backends_live_name ON llmb.llm_backends (namespace, name) WHERE deleted_at IS NULL;
CREATE INDEX llm_backends_live_model_name ON llmb.llm_backends (model_name) WHERE deleted_at IS NULL;
CREATE INDEX llm_backends_live_enabled ON llmb.llm_backends (enabled) WHERE deleted_at IS NULL;
CREATE INDEX llm_backends_live_backend_type ON llmb.llm_backends (backend_type) WHERE deleted_at IS NULL;

-- migrate:down

-- The schema stays: it holds schema_migrations.
DROP TABLE llmb.llm_backends;
