-- An attempt that failed may have used something as well.
ALTER TABLE attempts ADD COLUMN prompt_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN completion_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN usage_estimated BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN cost_nano_usd BIGINT;
