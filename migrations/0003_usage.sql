-- migrate:up

-- One row for each request that a router has served or refused; the columns are those of its usage record.
CREATE TABLE llmb.llm_usage (
    request_id text NOT NULL CHECK (octet_length(request_id) <= 512),
    at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    namespace text,
    route text,
    route_uid text,
    generation bigint,
    model text NOT NULL,
    target text,
    backend_type text,
    upstream_model text,
    front text,
    kind text,
    stream boolean,
    outcome text NOT NULL,
    status integer,
    error text,
    attempts integer,
    fallback_reason text,
    failures jsonb,
    prompt_tokens integer,
    completion_tokens integer,
    counted text,
    load_seconds double precision,
    first_token_seconds double precision,
    total_seconds double precision NOT NULL,
    prefill_tokens_per_second double precision,
    decode_tokens_per_second double precision,
    session text,
    "user" text,
    zone text,
    intent text,
    source text,
    stage text,
    trace_id text,
    PRIMARY KEY (request_id, at),
    -- Bounded, so that no record can make a sum overflow or a rollup's key too long for its index.
    CONSTRAINT llm_usage_key CHECK (
        octet_length(namespace) <= 255 AND octet_length(route_uid) <= 255 AND octet_length(model) <= 255
        AND octet_length(target) <= 255 AND octet_length(backend_type) <= 255 AND octet_length(outcome) <= 255
    ),
    CONSTRAINT llm_usage_measures CHECK (
        attempts >= 0 AND prompt_tokens >= 0 AND completion_tokens >= 0
        AND load_seconds BETWEEN 0 AND 1e9
        AND first_token_seconds BETWEEN 0 AND 1e9
        AND total_seconds BETWEEN 0 AND 1e9
        AND prefill_tokens_per_second BETWEEN 0 AND 1e9
        AND decode_tokens_per_second BETWEEN 0 AND 1e9
    )
) PARTITION BY RANGE (at);

COMMENT ON TABLE llmb.llm_usage IS
    'Usage records of routers, a partition for each day of UTC: llm_usage_YYYYMMDD, made and dropped by the operator.';
COMMENT ON COLUMN llmb.llm_usage.at IS 'When the request began, by the router''s clock.';
COMMENT ON COLUMN llmb.llm_usage.received_at IS 'When the record was stored.';
COMMENT ON COLUMN llmb.llm_usage.namespace IS 'Where the router runs, by whose token it was sent; NULL: not known.';

CREATE TABLE llmb.llm_usage_default PARTITION OF llmb.llm_usage DEFAULT;

COMMENT ON TABLE llmb.llm_usage_default IS 'Records of days that have no partition.';

-- Rows come nearly in the order of both, so a block range index finds them, and costs an insert next to nothing.
CREATE INDEX llm_usage_at ON llmb.llm_usage USING brin (at, received_at) WITH (pages_per_range = 16);

CREATE TABLE llmb.llm_usage_hourly (
    hour timestamptz NOT NULL,
    namespace text NOT NULL,
    route_uid text NOT NULL,
    model text NOT NULL,
    target text NOT NULL,
    backend_type text NOT NULL,
    outcome text NOT NULL,
    requests bigint NOT NULL,
    attempts bigint NOT NULL,
    fallbacks bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    total_seconds double precision NOT NULL,
    longest_seconds double precision NOT NULL,
    first_tokens bigint NOT NULL,
    first_token_seconds double precision NOT NULL,
    prefills bigint NOT NULL,
    prefill_tokens_per_second double precision NOT NULL,
    decodes bigint NOT NULL,
    decode_tokens_per_second double precision NOT NULL,
    PRIMARY KEY (hour, namespace, route_uid, model, target, backend_type, outcome)
);

COMMENT ON TABLE llmb.llm_usage_hourly IS
    'Sums over llm_usage for each finished hour; it outlives the records. What a record does not tell is empty in the key.';
COMMENT ON COLUMN llmb.llm_usage_hourly.fallbacks IS 'Requests whose first target failed.';
COMMENT ON COLUMN llmb.llm_usage_hourly.total_seconds IS 'Divided by requests: the average time of a request.';
COMMENT ON COLUMN llmb.llm_usage_hourly.first_token_seconds IS 'Divided by first_tokens: the average time to the first token.';
COMMENT ON COLUMN llmb.llm_usage_hourly.prefill_tokens_per_second IS 'Divided by prefills: the average rate of a prompt.';
COMMENT ON COLUMN llmb.llm_usage_hourly.decode_tokens_per_second IS 'Divided by decodes: the average rate of an answer.';

CREATE TABLE llmb.llm_usage_rolled_up (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    until timestamptz NOT NULL
);

COMMENT ON TABLE llmb.llm_usage_rolled_up IS 'One row: what was received before this is in llm_usage_hourly, as far as its hour had ended.';

INSERT INTO llmb.llm_usage_rolled_up (until) VALUES ('1970-01-01 00:00:00+00');

-- migrate:down

DROP TABLE llmb.llm_usage_rolled_up;
DROP TABLE llmb.llm_usage_hourly;
DROP TABLE llmb.llm_usage;
