SELECT max(version COLLATE "C") FROM llmb.schema_migrations
