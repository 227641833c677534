"""The tables of a project's DuckDB file: every column with its type and meaning, declared once.

The migrations create them, writes are checked against them, the Dagster UI shows them as column schemas, and
docs/tables.md is printed from them.
"""

from __future__ import annotations

from dataclasses import dataclass

UNPARTITIONED = "all"
HELD_OUT = "held_out"


@dataclass(frozen=True)
class Column:
    """A column: its name, its DuckDB type, what it means."""

    name: str
    type: str
    meaning: str
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """A table: its columns, in order, and the columns that make a row unique."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.name for column in self.columns]


def _required(name: str, type: str, meaning: str) -> Column:
    return Column(name, type, meaning, nullable=False)


_RECORD = _required("record_id", "VARCHAR", "the record's id in the source")
_HASH = _required("content_hash", "VARCHAR", "hash of the content; another one means a changed record")
_PARTITION = _required(
    "partition_key",
    "VARCHAR",
    f"the Dagster partition; '{UNPARTITIONED}' without partitions, '{HELD_OUT}' for held-out records",
)
_RUN = Column("run_id", "VARCHAR", "the Dagster run that wrote the row")

RECORDS = Table(
    "records",
    "every record of the source, one row an id, deleted ones included",
    (
        _RECORD,
        _HASH,
        _required("content", "VARCHAR", "what is annotated: the text template, filled in"),
        Column("attributes", "JSON", "further columns of the source"),
        Column("event_time", "TIMESTAMPTZ", "when it happened"),
        _PARTITION,
        Column("gold", "VARCHAR", "the label that people gave, where the source has one"),
        _required("first_seen", "TIMESTAMPTZ", "when it was first ingested"),
        _required("updated_at", "TIMESTAMPTZ", "when its content or attributes last changed"),
        Column("deleted_at", "TIMESTAMPTZ", "when the source no longer had it; null while it has"),
        Column("synthetic", "BOOLEAN", "whether a model wrote it; such a record never serves evaluation; null for no"),
    ),
    ("record_id",),
)
REJECTED_RECORDS = Table(
    "rejected_records",
    "rows of the source that did not become records, with the reason",
    (
        _required("partition_key", "VARCHAR", "the Dagster partition; '' for rows that belong to none"),
        Column("record_id", "VARCHAR", "its id, if it had one"),
        _required(
            "reason",
            "VARCHAR",
            "no_id, empty_content, no_time, outside_partitions, duplicate_id, or unknown_label (the record is kept, "
            "its gold label is not)",
        ),
        Column("row", "JSON", "the row as the source gave it"),
        _required("seen_at", "TIMESTAMPTZ", "when it was last met"),
    ),
)
SELECTED_RECORDS = Table(
    "selected_records",
    "for every live record, whether it is to be annotated",
    (
        _RECORD,
        _HASH,
        _PARTITION,
        _required(
            "state",
            "VARCHAR",
            "selected (goes to the annotator), waiting (not chosen yet), gold (a demonstration: people labelled it)",
        ),
        _required("strategy", "VARCHAR", "the acquisition function that chose it"),
        Column("score", "DOUBLE", "the acquisition function's score; higher is chosen first"),
        _required("selected_at", "TIMESTAMPTZ", "when it was chosen"),
        Column("round", "BIGINT", "the round that chose it, from 1, where the project has rounds"),
    ),
    ("record_id",),
)
SELECTION_ROUNDS = Table(
    "selection_rounds",
    "the rounds of active selection, with their learning curve: one row for each round that ended",
    (
        _PARTITION,
        _required("round", "BIGINT", "from 1"),
        _required("strategy", "VARCHAR", "the acquisition function that chose the round's records"),
        _required("chosen", "BIGINT", "records chosen in this round"),
        _required("labelled", "BIGINT", "those of them that have a silver label"),
        _required(
            "silver",
            "BIGINT",
            "silver labels that the round's student was trained on, those of earlier rounds and other partitions "
            "included; 0 where there was too little to train one",
        ),
        _required("gold", "BIGINT", "gold records that its student was measured on: none of them held out"),
        _required("metric", "VARCHAR", "the metric of the learning curve"),
        Column("value", "DOUBLE", "the metric of the round's student; null without gold, or without a student"),
        Column("lower", "DOUBLE", "lower end of its 95% interval"),
        Column("upper", "DOUBLE", "upper end of its 95% interval"),
        Column("agreement", "DOUBLE", "Cohen's kappa between this round's and the last one's student"),
        Column("cost_usd", "DOUBLE", "what the round's calls cost; null where a price is unknown"),
        _required("seconds", "DOUBLE", "how long the round took"),
        Column("stopped", "VARCHAR", "why no round follows, if none does"),
        _required("finished_at", "TIMESTAMPTZ", "when it ended"),
        _RUN,
    ),
    ("partition_key", "round"),
)
LLM_CALLS = Table(
    "llm_calls",
    "the ledger: every reply an annotator ever gave, raw, and every error; rows are never changed or removed",
    (
        _required("call_id", "VARCHAR", "unique id of the call"),
        _required("request_key", "VARCHAR", "hash of everything that could change the answer, the endpoint included"),
        _RECORD,
        _HASH,
        _required("annotator", "VARCHAR", "who was asked"),
        Column("endpoint", "VARCHAR", "base URL, without credentials"),
        _required("status", "VARCHAR", "ok, refused (the model declined), or error; only ok and refused serve again"),
        Column("http_status", "INTEGER", "status of the HTTP reply"),
        Column("reply", "VARCHAR", "the raw reply"),
        Column("error", "VARCHAR", "what went wrong"),
        Column("prompt_tokens", "BIGINT", "tokens read, as the endpoint counted them"),
        Column("completion_tokens", "BIGINT", "tokens written"),
        Column("cost_usd", "DOUBLE", "US dollars; null where the price is unknown"),
        Column("seconds", "DOUBLE", "from the request to the whole reply"),
        _required("called_at", "TIMESTAMPTZ", "when the reply arrived"),
        _RUN,
        Column("purpose", "VARCHAR", "ask (the first question), sample (a further answer), repair (of an invalid one)"),
        Column("cached_tokens", "BIGINT", "of the tokens read, those that the endpoint had cached"),
        Column("backfill_id", "VARCHAR", "the Dagster backfill that the run belongs to"),
        Column("batch_id", "VARCHAR", "the batch it came with, in llm_batches"),
    ),
    ("call_id",),
)
_ANNOTATION = (
    _RECORD,
    _HASH,
    _PARTITION,
    _required("annotator", "VARCHAR", "who annotated"),
    _required(
        "fingerprint",
        "VARCHAR",
        "hash of task, guideline, annotator and demonstrations; another one means stale",
    ),
    Column("request_key", "VARCHAR", "the first request in llm_calls"),
    _required(
        "state",
        "VARCHAR",
        "labelled, abstained, invalid (no valid answer), refused (the model declined), failed (no answer), over_budget "
        "(not asked: the budget is spent), submitted (waits for a batch)",
    ),
    Column("label", "VARCHAR", "the label, where labelled"),
    Column("confidence", "DOUBLE", "0 to 1, where the annotator gives one"),
    Column("scores", "JSON", "label to score, where the annotator gives them"),
    Column("problem", "VARCHAR", "why there is no label"),
    _required("reused", "BOOLEAN", "whether all replies were found in the ledger instead of bought"),
    _required("labelled_at", "TIMESTAMPTZ", "when the row was written"),
    _RUN,
    Column("rationale", "VARCHAR", "the annotator's reasons, where it gives them"),
)
LLM_LABELS = Table(
    "llm_labels",
    "the current annotation of every selected record; of several annotators, what they make together",
    _ANNOTATION,
    ("record_id", "annotator"),
)
LLM_VOTES = Table(
    "llm_votes",
    "where several annotators label together: what each of them says of a record",
    _ANNOTATION,
    ("record_id", "annotator"),
)
LLM_BATCHES = Table(
    "llm_batches",
    "every batch that was submitted to a batch API",
    (
        _required("batch_id", "VARCHAR", "the endpoint's id of the batch; a name of our own until the endpoint has it"),
        _PARTITION,
        _required("annotator", "VARCHAR", "who is asked"),
        _required("endpoint", "VARCHAR", "base URL, without credentials"),
        _required(
            "status",
            "VARCHAR",
            "uploading, creating; then as the endpoint says: validating, in_progress, finalizing, cancelling; "
            "completed, expired, failed, cancelled; or lost (the endpoint does not know it any more)",
        ),
        _required("requests", "BIGINT", "requests in it"),
        _required("prompt_tokens", "BIGINT", "their tokens to read, as estimated"),
        Column("input_file_id", "VARCHAR", "the endpoint's id of the input file"),
        Column("answered", "BIGINT", "requests that ended in an answer, once harvested"),
        Column("failed", "BIGINT", "requests that ended in an error, once harvested"),
        Column("error", "VARCHAR", "why the batch failed"),
        _required("submitted_at", "TIMESTAMPTZ", "when"),
        Column("polled_at", "TIMESTAMPTZ", "when the endpoint was last asked about it"),
        Column("harvested_at", "TIMESTAMPTZ", "when its replies came into the ledger; null while it is open"),
        _RUN,
        Column("backfill_id", "VARCHAR", "the Dagster backfill that the run belongs to"),
    ),
    ("batch_id",),
)
BATCH_REQUESTS = Table(
    "batch_requests",
    "the requests of open batches, and those that an ended batch left without an answer",
    (
        _required("batch_id", "VARCHAR", "the batch in llm_batches"),
        _required("request_key", "VARCHAR", "the request; its custom_id in the batch"),
        _RECORD,
        _HASH,
        _required("purpose", "VARCHAR", "as in llm_calls"),
    ),
    ("batch_id", "request_key"),
)
SYNTHETIC_RECORDS = Table(
    "synthetic_records",
    "what was generated from seeds: every entry of every answer, kept or dropped",
    (
        _required("synthetic_id", "VARCHAR", "hash of the seed's id and what was generated from it"),
        _required("seed_record_id", "VARCHAR", "the record that it was generated from"),
        _required("content_hash", "VARCHAR", "hash of its content"),
        _PARTITION,
        _required("content", "VARCHAR", "what was generated, as the content of a record; '' where it is not whole"),
        _required("value", "JSON", "what was generated, field by field; or only `problem`, where a field is missing"),
        Column("label", "VARCHAR", "the label that it was asked for, in the mode texts"),
        _required("state", "VARCHAR", "kept, dropped, or waiting (for the judge, or the round trip)"),
        Column(
            "reason",
            "VARCHAR",
            "the first check that it did not pass: schema, empty, turns, too_short, too_long, refusal, boilerplate, "
            "placeholder, echo, forbidden, near_duplicate, pool_duplicate, judge, not_judged, round_trip; of a waiting "
            "one the check that it waits for: judge, round_trip",
        ),
        Column("problem", "VARCHAR", "the reason in words"),
        Column("judge_score", "DOUBLE", "the judge's score, where it was judged"),
        Column("round_trip_label", "VARCHAR", "the label that an annotator gave it blind"),
        Column("near_duplicate_of", "VARCHAR", "the synthetic record, or the record, that says nearly the same"),
        Column("similarity", "DOUBLE", "how similar the two are, 0 to 1"),
        _required("synthetic", "BOOLEAN", "always true: it carries the mark into whatever the row is copied to"),
        _required("annotator", "VARCHAR", "who generated it"),
        _required("generated_at", "TIMESTAMPTZ", "when the answer that holds it was read"),
        _required("checked_at", "TIMESTAMPTZ", "when a check last changed the row"),
        _RUN,
    ),
    ("synthetic_id",),
)
SYNTHETIC_ANNOTATIONS = Table(
    "synthetic_annotations",
    "what the judge, and the blind annotator of the round trip, say of synthetic records; record_id is a synthetic_id",
    _ANNOTATION,
    ("record_id", "annotator"),
)
VALIDATION_RESULTS = Table(
    "validation_results",
    "the latest result of every expectation on every partition",
    (
        _PARTITION,
        _required("check_name", "VARCHAR", "name of the asset check"),
        _required("expectation", "VARCHAR", "the Great Expectations type"),
        Column("column_name", "VARCHAR", "the column it looks at, if one"),
        _required("success", "BOOLEAN", "whether it was met"),
        _required("blocking", "BOOLEAN", "whether a failure stops the partition before trusted_labels"),
        Column("element_count", "BIGINT", "rows looked at"),
        Column("unexpected_count", "BIGINT", "rows that did not meet it"),
        Column("observed", "VARCHAR", "what was observed, in words or JSON"),
        Column("examples", "JSON", "up to ten record ids that did not meet it"),
        _required("validated_at", "TIMESTAMPTZ", "when"),
        _RUN,
    ),
    ("partition_key", "check_name"),
)
HUMAN_LABELS = Table(
    "human_labels",
    "labels that people gave, and what each is used for",
    (
        _RECORD,
        _HASH,
        _required("content", "VARCHAR", "the text"),
        _required("label", "VARCHAR", "the gold label"),
        _required(
            "role",
            "VARCHAR",
            "demonstration (shown to the annotator, trained on), training (overrides the silver label), evaluation "
            "(never trained on), monitor (measures the annotator only)",
        ),
        _required("origin", "VARCHAR", "source (the gold column), file (human_labels), or held_out (evaluation files)"),
        Column("person", "VARCHAR", "who gave it, where known"),
        Column("labelled_at", "TIMESTAMPTZ", "when it was given, where known"),
    ),
    ("record_id",),
)
TRUSTED_LABELS = Table(
    "trusted_labels",
    "the labels that students are trained on",
    (
        _RECORD,
        _HASH,
        _PARTITION,
        _required("label", "VARCHAR", "the label"),
        _required("origin", "VARCHAR", "gold (people) or silver (the annotator)"),
        _required("weight", "DOUBLE", "its weight in training, 0 to 1"),
        Column("confidence", "DOUBLE", "the annotator's confidence, for silver"),
        _required("trusted_at", "TIMESTAMPTZ", "when"),
    ),
    ("record_id",),
)
MODELS = Table(
    "models",
    "every distilled model ever trained",
    (
        _required("version", "VARCHAR", "hash of training data and configuration"),
        _required("status", "VARCHAR", "candidate, champion (predictions come from it), retired, or rejected"),
        _required("student", "VARCHAR", "kind of student"),
        _required("encoder", "VARCHAR", "sentence encoder"),
        _required("silver", "BIGINT", "silver labels trained on"),
        _required("gold", "BIGINT", "gold labels trained on"),
        Column("parent", "VARCHAR", "the champion when it was trained"),
        _required(
            "path",
            "VARCHAR",
            "folder with the weights (safetensors), card.json and training.parquet (what it was trained on), below the "
            "project's storage",
        ),
        _required("trained_at", "TIMESTAMPTZ", "when"),
        Column("promoted_at", "TIMESTAMPTZ", "when it became champion"),
        _RUN,
        Column("data_fingerprint", "VARCHAR", "hash of the contents, labels and weights that it was trained on"),
        Column("config", "JSON", "distillation, as it was declared"),
        Column("decision", "VARCHAR", "why it was promoted, rejected or retired, in words"),
        Column("decided_at", "TIMESTAMPTZ", "when"),
    ),
    ("version",),
)
MODEL_CHECKS = Table(
    "model_checks",
    "how students behave: the latest result of every behavioural check",
    (
        _required("model_version", "VARCHAR", "the student's version"),
        _required("check_name", "VARCHAR", "what is asked of it"),
        _required("passed", "BOOLEAN", "whether it does so"),
        _required("observed", "VARCHAR", "what was observed, in words"),
        _required("records", "BIGINT", "texts that it was tried on"),
        _required("checked_at", "TIMESTAMPTZ", "when"),
        _RUN,
    ),
    ("model_version", "check_name"),
)
MODEL_EVALUATION = Table(
    "model_evaluation",
    "teacher and students on gold that no training step saw",
    (
        _required(
            "model_version",
            "VARCHAR",
            "the student's version, 'teacher', or what it is held against: 'gold alone', 'constant'",
        ),
        _required("split", "VARCHAR", "evaluation (held-out gold) or monitor (gold on records of the pool)"),
        _required("slice", "VARCHAR", "the part of the split, as in 'length: long'; '' for all of it"),
        _required(
            "metric",
            "VARCHAR",
            "a metric of the task, such as accuracy or f1; ece and brier (calibration); or a difference, such as "
            "accuracy_less_teacher",
        ),
        _required("label", "VARCHAR", "the label for a metric per label, '' otherwise"),
        Column("value", "DOUBLE", "the metric"),
        Column("lower", "DOUBLE", "lower end of the 95% interval"),
        Column("upper", "DOUBLE", "upper end of the 95% interval"),
        _required("records", "BIGINT", "gold records it was measured on; a student's are those it was not trained on"),
        _required("evaluated_at", "TIMESTAMPTZ", "when"),
    ),
    ("model_version", "split", "slice", "metric", "label"),
)
PREDICTIONS = Table(
    "predictions",
    "the champion's label for every live record",
    (
        _RECORD,
        _HASH,
        _PARTITION,
        _required("label", "VARCHAR", "the label"),
        _required("confidence", "DOUBLE", "the student's probability of it"),
        _required("model_version", "VARCHAR", "the model in models"),
        _required("predicted_at", "TIMESTAMPTZ", "when"),
        Column("state", "VARCHAR", "predicted, or abstained: with too little confidence to be used"),
    ),
    ("record_id",),
)
STAGE_RUNS = Table(
    "stage_runs",
    "the latest counts of every stage and partition, as shown in the UI",
    (
        _required("stage", "VARCHAR", "the asset"),
        _PARTITION,
        _required("facts", "JSON", "name to number"),
        _required("finished_at", "TIMESTAMPTZ", "when"),
        _RUN,
    ),
    ("stage", "partition_key"),
)
REFRESH_PLANS = Table(
    "refresh_plans",
    "what each refresh found to do: one row a partition it touches",
    (
        _required("refresh_id", "VARCHAR", "the Dagster run of the refresh"),
        _PARTITION,
        _required("new", "BIGINT", "records the store has not seen"),
        _required("changed", "BIGINT", "records with new content or another partition"),
        _required("deleted", "BIGINT", "records the source no longer has"),
        _required("stale", "BIGINT", "records whose label is missing or out of date"),
        _required("planned_at", "TIMESTAMPTZ", "when"),
    ),
    ("refresh_id", "partition_key"),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        RECORDS,
        REJECTED_RECORDS,
        SELECTED_RECORDS,
        SELECTION_ROUNDS,
        LLM_CALLS,
        LLM_LABELS,
        LLM_VOTES,
        LLM_BATCHES,
        BATCH_REQUESTS,
        SYNTHETIC_RECORDS,
        SYNTHETIC_ANNOTATIONS,
        VALIDATION_RESULTS,
        HUMAN_LABELS,
        TRUSTED_LABELS,
        MODELS,
        MODEL_CHECKS,
        MODEL_EVALUATION,
        PREDICTIONS,
        STAGE_RUNS,
        REFRESH_PLANS,
    )
}
"""Every table by name; `embeddings` is a view over Parquet files and is declared in `store.vectors`."""
