-- Images and long-kept cache writes have prices of their own, and batches have other ones.
ALTER TABLE requests ADD COLUMN cache_write_1h_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN image_prompt_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN in_batch BIGINT NOT NULL DEFAULT 0;
