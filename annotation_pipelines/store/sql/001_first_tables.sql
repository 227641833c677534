-- The tables of the first release. A released migration never changes: a later one alters what it made.

CREATE TABLE records (
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "content" VARCHAR NOT NULL,
    "attributes" JSON,
    "event_time" TIMESTAMPTZ,
    "partition_key" VARCHAR NOT NULL,
    "gold" VARCHAR,
    "first_seen" TIMESTAMPTZ NOT NULL,
    "updated_at" TIMESTAMPTZ NOT NULL,
    "deleted_at" TIMESTAMPTZ,
    PRIMARY KEY ("record_id")
);

CREATE TABLE rejected_records (
    "partition_key" VARCHAR NOT NULL,
    "record_id" VARCHAR,
    "reason" VARCHAR NOT NULL,
    "row" JSON,
    "seen_at" TIMESTAMPTZ NOT NULL
);

CREATE TABLE selected_records (
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "state" VARCHAR NOT NULL,
    "strategy" VARCHAR NOT NULL,
    "score" DOUBLE,
    "selected_at" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("record_id")
);

CREATE TABLE llm_calls (
    "call_id" VARCHAR NOT NULL,
    "request_key" VARCHAR NOT NULL,
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "annotator" VARCHAR NOT NULL,
    "endpoint" VARCHAR,
    "status" VARCHAR NOT NULL,
    "http_status" INTEGER,
    "reply" VARCHAR,
    "error" VARCHAR,
    "prompt_tokens" BIGINT,
    "completion_tokens" BIGINT,
    "cost_usd" DOUBLE,
    "seconds" DOUBLE,
    "called_at" TIMESTAMPTZ NOT NULL,
    "run_id" VARCHAR,
    PRIMARY KEY ("call_id")
);

CREATE TABLE llm_labels (
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
    PRIMARY KEY ("record_id", "annotator")
);

CREATE TABLE validation_results (
    "partition_key" VARCHAR NOT NULL,
    "check_name" VARCHAR NOT NULL,
    "expectation" VARCHAR NOT NULL,
    "column_name" VARCHAR,
    "success" BOOLEAN NOT NULL,
    "blocking" BOOLEAN NOT NULL,
    "element_count" BIGINT,
    "unexpected_count" BIGINT,
    "observed" VARCHAR,
    "examples" JSON,
    "validated_at" TIMESTAMPTZ NOT NULL,
    "run_id" VARCHAR,
    PRIMARY KEY ("partition_key", "check_name")
);

CREATE TABLE human_labels (
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "content" VARCHAR NOT NULL,
    "label" VARCHAR NOT NULL,
    "role" VARCHAR NOT NULL,
    "origin" VARCHAR NOT NULL,
    "person" VARCHAR,
    "labelled_at" TIMESTAMPTZ,
    PRIMARY KEY ("record_id")
);

CREATE TABLE trusted_labels (
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "label" VARCHAR NOT NULL,
    "origin" VARCHAR NOT NULL,
    "weight" DOUBLE NOT NULL,
    "confidence" DOUBLE,
    "trusted_at" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("record_id")
);

CREATE TABLE models (
    "version" VARCHAR NOT NULL,
    "status" VARCHAR NOT NULL,
    "student" VARCHAR NOT NULL,
    "encoder" VARCHAR NOT NULL,
    "silver" BIGINT NOT NULL,
    "gold" BIGINT NOT NULL,
    "parent" VARCHAR,
    "path" VARCHAR NOT NULL,
    "trained_at" TIMESTAMPTZ NOT NULL,
    "promoted_at" TIMESTAMPTZ,
    "run_id" VARCHAR,
    PRIMARY KEY ("version")
);

CREATE TABLE model_evaluation (
    "model_version" VARCHAR NOT NULL,
    "split" VARCHAR NOT NULL,
    "metric" VARCHAR NOT NULL,
    "label" VARCHAR NOT NULL,
    "value" DOUBLE,
    "lower" DOUBLE,
    "upper" DOUBLE,
    "records" BIGINT NOT NULL,
    "evaluated_at" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("model_version", "split", "metric", "label")
);

CREATE TABLE predictions (
    "record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "label" VARCHAR NOT NULL,
    "confidence" DOUBLE NOT NULL,
    "model_version" VARCHAR NOT NULL,
    "predicted_at" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("record_id")
);

CREATE TABLE stage_runs (
    "stage" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "facts" JSON NOT NULL,
    "finished_at" TIMESTAMPTZ NOT NULL,
    "run_id" VARCHAR,
    PRIMARY KEY ("stage", "partition_key")
);

CREATE TABLE refresh_plans (
    "refresh_id" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "new" BIGINT NOT NULL,
    "changed" BIGINT NOT NULL,
    "deleted" BIGINT NOT NULL,
    "stale" BIGINT NOT NULL,
    "planned_at" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("refresh_id", "partition_key")
);

CREATE INDEX llm_calls_by_request ON llm_calls (request_key);
