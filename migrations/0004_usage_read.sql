-- migrate:up

-- Recorded requests are shown newest first, and compared by model. Rows come nearly in the order of both, so an insert
-- appends to each: the two together lengthen it by a twelfth.
CREATE INDEX llm_usage_newest ON llmb.llm_usage (at);
CREATE INDEX llm_usage_model ON llmb.llm_usage (model, at);

-- NB: not left to vacuum, which leaves out the last pages of a day: each look for late records would read them, for as
-- long as the day is kept.
CREATE INDEX llm_usage_received ON llmb.llm_usage USING brin (received_at) WITH (pages_per_range = 16, autosummarize = on);

-- migrate:down

DROP INDEX llmb.llm_usage_received;
DROP INDEX llmb.llm_usage_model;
DROP INDEX llmb.llm_usage_newest;
