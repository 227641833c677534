-- Synthetic records: what was generated, how it was checked, and the mark that it carries for ever.

ALTER TABLE records ADD COLUMN "synthetic" BOOLEAN;

CREATE TABLE synthetic_records (
    "synthetic_id" VARCHAR NOT NULL,
    "seed_record_id" VARCHAR NOT NULL,
    "content_hash" VARCHAR NOT NULL,
    "partition_key" VARCHAR NOT NULL,
    "content" VARCHAR NOT NULL,
    "value" JSON NOT NULL,
    "label" VARCHAR,
    "state" VARCHAR NOT NULL,
    "reason" VARCHAR,
    "problem" VARCHAR,
    "judge_score" DOUBLE,
    "round_trip_label" VARCHAR,
    "near_duplicate_of" VARCHAR,
    "similarity" DOUBLE,
    "synthetic" BOOLEAN NOT NULL,
    "annotator" VARCHAR NOT NULL,
    "generated_at" TIMESTAMPTZ NOT NULL,
    "checked_at" TIMESTAMPTZ NOT NULL,
    "run_id" VARCHAR,
    PRIMARY KEY ("synthetic_id")
);

CREATE TABLE synthetic_annotations (
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
