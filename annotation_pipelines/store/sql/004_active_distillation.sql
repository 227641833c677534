-- Rounds of active selection; models with their data, their checks and what became of them; slices; abstentions.

ALTER TABLE selected_records ADD COLUMN "round" BIGINT;

CREATE TABLE selection_rounds (
    "partition_key" VARCHAR NOT NULL,
    "round" BIGINT NOT NULL,
    "strategy" VARCHAR NOT NULL,
    "chosen" BIGINT NOT NULL,
    "labelled" BIGINT NOT NULL,
    "silver" BIGINT NOT NULL,
    "gold" BIGINT NOT NULL,
    "metric" VARCHAR NOT NULL,
    "value" DOUBLE,
    "lower" DOUBLE,
    "upper" DOUBLE,
    "agreement" DOUBLE,
    "cost_usd" DOUBLE,
    "seconds" DOUBLE NOT NULL,
    "stopped" VARCHAR,
    "finished_at" TIMESTAMPTZ NOT NULL,
    "run_id" VARCHAR,
    PRIMARY KEY ("partition_key", "round")
);

ALTER TABLE models ADD COLUMN "data_fingerprint" VARCHAR;
ALTER TABLE models ADD COLUMN "config" JSON;
ALTER TABLE models ADD COLUMN "decision" VARCHAR;
ALTER TABLE models ADD COLUMN "decided_at" TIMESTAMPTZ;

CREATE TABLE model_checks (
    "model_version" VARCHAR NOT NULL,
    "check_name" VARCHAR NOT NULL,
    "passed" BOOLEAN NOT NULL,
    "observed" VARCHAR NOT NULL,
    "records" BIGINT NOT NULL,
    "checked_at" TIMESTAMPTZ NOT NULL,
    "run_id" VARCHAR,
    PRIMARY KEY ("model_version", "check_name")
);

-- The key grows by the slice, and keys cannot be altered.
CREATE TABLE model_evaluation_by_slice (
    "model_version" VARCHAR NOT NULL,
    "split" VARCHAR NOT NULL,
    "slice" VARCHAR NOT NULL,
    "metric" VARCHAR NOT NULL,
    "label" VARCHAR NOT NULL,
    "value" DOUBLE,
    "lower" DOUBLE,
    "upper" DOUBLE,
    "records" BIGINT NOT NULL,
    "evaluated_at" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("model_version", "split", "slice", "metric", "label")
);
INSERT INTO model_evaluation_by_slice
SELECT "model_version", "split", '', "metric", "label", "value", "lower", "upper", "records", "evaluated_at"
FROM model_evaluation;
DROP TABLE model_evaluation;
ALTER TABLE model_evaluation_by_slice RENAME TO model_evaluation;

ALTER TABLE predictions ADD COLUMN "state" VARCHAR;
