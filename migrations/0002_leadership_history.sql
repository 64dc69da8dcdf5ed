-- migrate:up

-- Which leadership may write. Each writing transaction raises it to its own first, or writes nothing.
CREATE TABLE llmb.leadership (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch bigint NOT NULL
);

COMMENT ON TABLE llmb.leadership IS
    'One row. An operator whose own epoch is lower writes nothing: another has taken over from it.';

INSERT INTO llmb.leadership (epoch) VALUES (0);

CREATE TABLE llmb.llm_backend_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid text NOT NULL,
    generation bigint NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    model_name text NOT NULL,
    enabled boolean NOT NULL,
    spec jsonb NOT NULL,
    change text NOT NULL CHECK (change IN ('created', 'changed', 'deleted')),
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE llmb.llm_backend_history IS
    'Each generation of each LLMBackend that the operator has recorded, and its end.';
COMMENT ON COLUMN llmb.llm_backend_history.change IS
    'created: the first generation that was recorded; deleted: the resource is gone.';
COMMENT ON COLUMN llmb.llm_backend_history.changed_by IS
    'Field manager that changed the spec last; empty when nobody knows, as for a deletion.';
COMMENT ON COLUMN llmb.llm_backend_history.changed_at IS
    'When the spec was changed by the API server''s clock, else when it was recorded.';

CREATE UNIQUE INDEX llm_backend_history_once ON llmb.llm_backend_history (uid, generation, (change = 'deleted'));
CREATE INDEX llm_backend_history_name ON llmb.llm_backend_history (namespace, name);

-- migrate:down

DROP TABLE llmb.llm_backend_history;
DROP TABLE llmb.leadership;
