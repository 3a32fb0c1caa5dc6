-- Version 1. One text for both databases: BYTES is BLOB in SQLite and BYTEA in PostgreSQL.
-- Times are milliseconds since 1970, money nano-dollars, truth 0 or 1.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- `records` counts changes of keys, groups and budgets; `retention` is what deleters queue at.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('records', 0), ('retention', 0);

-- Deleted groups stay, so that what they spent keeps its name.
CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    level TEXT NOT NULL,
    name TEXT NOT NULL,
    parent TEXT,
    created_ms BIGINT NOT NULL,
    origin TEXT NOT NULL,
    deleted_ms BIGINT
);
CREATE UNIQUE INDEX groups_name ON groups (level, name) WHERE deleted_ms IS NULL;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash BYTES NOT NULL,
    previous_hash BYTES,
    previous_until_ms BIGINT,
    group_id TEXT,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT,
    restrictions TEXT NOT NULL,
    origin TEXT NOT NULL
);
CREATE UNIQUE INDEX keys_name ON keys (name) WHERE revoked_ms IS NULL;
CREATE UNIQUE INDEX keys_hash ON keys (hash);

CREATE TABLE budgets (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    scope_level TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    unit TEXT NOT NULL,
    amount BIGINT NOT NULL,
    time_window TEXT NOT NULL,
    time_zone TEXT,
    hard BIGINT NOT NULL,
    when_spent TEXT NOT NULL,
    warn_at_percent TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    origin TEXT NOT NULL
);

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    key_id TEXT,
    project_id TEXT,
    team_id TEXT,
    organisation_id TEXT,
    end_user TEXT,
    tags TEXT,
    surface TEXT NOT NULL,
    policy TEXT,
    score DOUBLE PRECISION,
    threshold DOUBLE PRECISION,
    tier TEXT,
    decided_model TEXT,
    model TEXT,
    provider TEXT,
    deployment BIGINT,
    reason TEXT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    audio_prompt_tokens BIGINT NOT NULL,
    audio_completion_tokens BIGINT NOT NULL,
    usage_estimated BIGINT NOT NULL,
    cost_nano_usd BIGINT,
    provider_cost_nano_usd BIGINT,
    strong_cost_nano_usd BIGINT,
    scoring_us BIGINT NOT NULL,
    first_content_us BIGINT,
    duration_us BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    finish_reason TEXT,
    cache TEXT NOT NULL,
    stream BIGINT NOT NULL
);
CREATE INDEX requests_time ON requests (time_ms);
CREATE INDEX requests_key_time ON requests (key_id, time_ms);

CREATE TABLE attempts (
    request_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    deployment BIGINT,
    started_us BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    status BIGINT,
    PRIMARY KEY (request_id, number)
);

-- What requests that were deleted for their age had spent, by scope and UTC day.
CREATE TABLE carried (
    scope_level TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    day_ms BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    nano_usd BIGINT NOT NULL,
    PRIMARY KEY (scope_level, scope_id, day_ms)
);

-- The number is the revision of `records` that the change made.
CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    time_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL
);
