-- Several annotators, rationales, batches, budgets.

ALTER TABLE llm_calls ADD COLUMN "purpose" VARCHAR;
ALTER TABLE llm_calls ADD COLUMN "cached_tokens" BIGINT;
ALTER TABLE llm_calls ADD COLUMN "backfill_id" VARCHAR;
ALTER TABLE llm_calls ADD COLUMN "batch_id" VARCHAR;

ALTER TABLE llm_labels ADD COLUMN "rationale" VARCHAR;

CREATE TABLE llm_votes (
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "annotator" VARCHAR NOT NULL,
    "fingerprint" VARCHAR NOT NULL,
    "request_key" VARCHAR,
    "state" VARCHAR NOT NULL,
    "label" VARCHAR,
    "confidence" DOUBLE,
    "scores" JSON,
    "problem" VARCHAR,
    "reused" BOOLEAN NOT NULL,
    "labelled_at" TIMESTAMPTZ NOT NULL,
    "run_id" VARCHAR,
    "rationale" VARCHAR,
    PRIMARY KEY ("record_id", "annotator")
);

CREATE TABLE llm_batches (
    "batch_id" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "annotator" VARCHAR NOT NULL,
    "endpoint" VARCHAR NOT NULL,
    "status" VARCHAR NOT NULL,
    "requests" BIGINT NOT NULL,
    "prompt_tokens" BIGINT NOT NULL,
    "input_file_id" VARCHAR,
    "answered" BIGINT,
    "failed" BIGINT,
    "error" VARCHAR,
    "submitted_at" TIMESTAMPTZ NOT NULL,
    "polled_at" TIMESTAMPTZ,
    "harvested_at" TIMESTAMPTZ,
    "run_id" VARCHAR,
    "backfill_id" VARCHAR,
    PRIMARY KEY ("batch_id")
);

CREATE TABLE batch_requests (
    "batch_id" VARCHAR NOT NULL,
    "request_key" VARCHAR NOT NULL,
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "purpose" VARCHAR NOT NULL,
    PRIMARY KEY ("batch_id", "request_key")
);
