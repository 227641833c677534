"""An export as a whole: which rows, the card, the schema, and a folder that is swapped whole."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from annotation_pipelines.errors import DeclarationError, WorkspaceError
from annotation_pipelines.exports.dataset import chosen_export, export_dataset
from annotation_pipelines.exports.folder import swapped
from annotation_pipelines.exports.rows import BELOW, CHANGED, NOT_A_LABEL, SUPERSEDED
from annotation_pipelines.project.exports import Export
from tests.exports.scene import entries, export, fill, project, record, store
from tests.workspaces import ROOT, STANCE


def tweets(n: int) -> list[str]:
    """Different real tweets."""
    return pl.read_csv(STANCE, infer_schema=False)["text"].unique(maintain_order=True).head(n).to_list()


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


class TestRows:
    def test_every_row_is_written_or_left_out_with_a_reason(self, tmp_path: Path) -> None:
        records = [
            record("r1", "my card", "card", confidence=0.9),
            record("r2", "my purse", "card", confidence=0.2),
            record("r3", "no confidence here", "card", confidence=None),
            record("r4", "an old label", "cheque"),
            record("r5", "people said so", "transfer", origin="gold"),
            record("r6", "held out by people", "transfer", origin="evaluation"),
            record("r7", "changed since then", "card"),
            record("r8", "became evaluation", "card"),
        ]
        where = store(tmp_path / "storage")
        fill(where, records)
        with where.transaction() as con:
            con.execute("UPDATE records SET content_hash = 'other', content = 'new words' WHERE record_id = 'r7'")
            con.execute(
                "INSERT INTO human_labels (record_id, content_hash, content, label, role, origin) "
                "VALUES ('r8', 'x', 'became evaluation', 'transfer', 'evaluation', 'source')"
            )
        exported = export_dataset(where, project(tmp_path / "p"), Export(format="parquet", min_confidence=0.5))
        assert exported.left_out == {BELOW: 1, NOT_A_LABEL: 1, CHANGED: 1, SUPERSEDED: 1}
        found = pl.read_parquet(exported.folder / "records.parquet")
        assert sorted(found["record_id"]) == ["r1", "r3", "r5", "r6", "r8"]
        assert dict(found.select("record_id", "split").iter_rows())["r6"] == "test"
        assert dict(found.select("record_id", "label").iter_rows())["r8"] == "transfer"
        assert sum(exported.rows.values()) + sum(exported.left_out.values()) == 9

    def test_held_out_gold_is_in_test_and_never_in_train(self, tmp_path: Path) -> None:
        texts = tweets(200)
        records = [
            record(f"r{i:03}", text, "card", origin="evaluation" if i < 50 else "silver")
            for i, text in enumerate(texts)
        ]
        records += [record(f"s{i:03}", f"{text}!!", "card") for i, text in enumerate(texts[:50])]
        exported = export(tmp_path, project(tmp_path), records, format="parquet")
        index = pl.read_parquet(exported.folder / "records.parquet")
        for prefix in ("r", "s"):
            early = index.filter(pl.col("record_id").is_in([f"{prefix}{i:03}" for i in range(50)]))
            assert set(early["split"]) == {"test"}
        assert exported.leaks == []

    def test_a_split_without_rows_has_no_file(self, tmp_path: Path) -> None:
        exported = export(tmp_path, project(tmp_path), [record("r1", "my card", "card", synthetic=True)], format="chat")
        assert [file.name for file in (exported.folder / "data").iterdir()] == ["train.jsonl"]
        nothing = export(tmp_path, project(tmp_path), [], format="parquet")
        assert list((nothing.folder / "data").iterdir()) == []
        assert nothing.rows == {}
        assert "configs" not in nothing.card

    def test_what_a_generation_task_made_is_train_alone(self, tmp_path: Path) -> None:
        made = project(
            tmp_path,
            {"generation": {"self_instruct": {}}},
            annotators=[{"openai": {"model": "m", "base_url": "http://x"}}],
        )
        where = store(tmp_path / "storage")
        with where.transaction() as con:
            for number, state in enumerate(["kept", "kept", "dropped", "waiting"]):
                value = json.dumps({"instruction": f"Say {number}.", "input": "", "output": str(number)})
                con.execute(
                    "INSERT INTO synthetic_records (synthetic_id, seed_record_id, content_hash, partition_key, "
                    "content, value, state, synthetic, annotator, generated_at, checked_at) "
                    "VALUES (?, 'seed', ?, 'all', ?, ?, ?, true, 'm', now(), now())",
                    [f"s{number}", f"h{number}", f"Say {number}.", value, state],
                )
        exported = export_dataset(where, made, Export(format="chat"))
        assert exported.rows == {"train": 2}
        assert [entry["messages"][-1]["content"] for entry in entries(exported)] == ["0", "1"]


class TestCardAndSchema:
    def test_the_card_says_what_it_is_and_counts_add_up(self, tmp_path: Path) -> None:
        texts = tweets(120)
        records = [
            record(f"r{i}", text, "card" if i % 3 else "transfer", origin="gold" if i % 4 == 0 else "silver")
            for i, text in enumerate([*texts, texts[0], ""])
        ]
        made = project(tmp_path, guideline="Look at the noun.", description="What clients write to a bank.")
        exported = export(tmp_path, made, records, format="parquet", licence="cc-by-4.0", min_confidence=0.1)
        card = (exported.folder / "README.md").read_text(encoding="utf-8")
        head = yaml.safe_load(card.split("---\n")[1])
        assert (head["license"], head["size_categories"]) == ("cc-by-4.0", ["n<1K"])
        assert "What clients write to a bank." in card
        assert '- "card": about bank cards' in card
        assert "Licence: cc-by-4.0." in card
        assert "- Silver labels: embedded" in card
        assert "ffffffffffff (fingerprints of the silver labels)" in card
        assert "| records that repeat the text of an earlier one | 1 |" in card
        assert "| records with an empty text | 1 |" in card
        index = pl.read_parquet(exported.folder / "records.parquet")
        for split, number in exported.rows.items():
            here = index.filter(pl.col("split") == split)
            gold = here.filter(pl.col("origin") == "gold").height
            assert f"| {split} | {number} | {gold} | {number - gold} | 0 | {number} |" in card
            assert len(here) == number
        schema = json.loads((exported.folder / "schema.json").read_text(encoding="utf-8"))
        assert [column["name"] for column in schema["columns"]] == pl.read_parquet(
            exported.folder / schema["files"]["train"]
        ).columns
        assert [column["name"] for column in schema["index"]["columns"]] == index.columns
        assert all(column["meaning"] for column in schema["columns"])

    def test_contradictions_are_counted(self, tmp_path: Path) -> None:
        records = [record("r1", "my card", "card"), record("r2", "My  CARD", "transfer"), record("r3", "else", "card")]
        exported = export(tmp_path, project(tmp_path), records, format="chat")
        assert exported.notes["records whose very text has another label elsewhere"] == 2
        assert exported.notes["records in a group with others"] == 2

    def test_figures_of_the_annotator_against_people_are_on_the_card(self, tmp_path: Path) -> None:
        where = store(tmp_path / "storage")
        fill(where, [record("r1", "my card", "card")])
        with where.transaction() as con:
            con.execute(
                "INSERT INTO model_evaluation "
                "VALUES ('teacher', 'evaluation', '', 'accuracy', '', 0.9, 0.8, 0.95, 40, now())"
            )
        exported = export_dataset(where, project(tmp_path / "p"), Export(format="chat"))
        assert "| accuracy | evaluation | 0.900 | 0.800 to 0.950 | 40 |" in exported.card

    def test_another_label_makes_another_version_so_that_caches_do_not_serve_the_old_rows(self, tmp_path: Path) -> None:
        made = project(tmp_path)
        one = export(tmp_path, made, [record("r1", "my card", "card")], format="parquet").card
        other = export(tmp_path, made, [record("r1", "my card", "transfer")], format="parquet").card
        first, second = (yaml.safe_load(card.split("---\n")[1])["configs"][0] for card in (one, other))
        assert first["data_files"] == second["data_files"]
        assert first["description"] != second["description"]


class TestFolder:
    @pytest.mark.parametrize("form", ["chat", "parquet", "spacy", "label_studio"])
    def test_the_same_labels_give_the_same_bytes(self, tmp_path: Path, form: str) -> None:
        records = [record(f"r{i}", text, "card") for i, text in enumerate(tweets(60))]
        made = project(tmp_path)
        first = hashes(export(tmp_path, made, records, format=form).folder)
        again = hashes(export(tmp_path, made, records[::-1], format=form).folder)
        assert first == again
        assert {"README.md", "schema.json", "records.parquet"} < set(first)

    def test_what_is_no_export_is_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
        where = store(tmp_path / "storage")
        fill(where, [record("r1", "my card", "card")])
        with pytest.raises(WorkspaceError, match="expected an earlier export, an empty folder or nothing"):
            export_dataset(where, project(tmp_path / "p"), Export(format="chat"), tmp_path / "mine")
        assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "years of work"
        (tmp_path / "empty").mkdir()
        export_dataset(where, project(tmp_path / "p"), Export(format="chat"), tmp_path / "empty")
        assert (tmp_path / "empty" / "README.md").is_file()

    def test_an_export_that_fails_leaves_the_old_one_and_nothing_else(self, tmp_path: Path) -> None:
        folder = export(tmp_path, project(tmp_path), [record("r1", "my card", "card")], format="chat").folder
        before = hashes(folder)
        with pytest.raises(RuntimeError), swapped(folder) as new:
            (new / "data").mkdir()
            raise RuntimeError("in the middle")
        assert hashes(folder) == before
        assert sorted(file.name for file in folder.parent.iterdir() if file.is_dir()) == ["chat"]

    @pytest.mark.parametrize("between_renames", [False, True])
    def test_a_kill_leaves_the_old_export_or_it_is_put_back(self, tmp_path: Path, between_renames: bool) -> None:
        folder = export(tmp_path, project(tmp_path), [record("r1", "my card", "card")], format="chat").folder
        before = hashes(folder)
        script = (
            "import os, signal, sys\nfrom pathlib import Path\n"
            "from annotation_pipelines.exports.folder import swapped\n"
            "folder = Path(sys.argv[1])\n"
            "kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            "with swapped(folder) as new:\n"
            "    (new / 'schema.json').write_text('half')\n"
            "    if sys.argv[2] == 'True':\n"
            "        rename = Path.rename\n"
            "        Path.rename = lambda path, to: kill() if path == new else rename(path, to)\n"
            "    else:\n"
            "        kill()\n"
        )
        killed = subprocess.run(
            [sys.executable, "-c", script, str(folder), str(between_renames)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        with pytest.raises(RuntimeError), swapped(folder):
            raise RuntimeError("only to look")
        assert hashes(folder) == before
        assert sorted(file.name for file in folder.parent.iterdir() if file.is_dir()) == ["chat"]


class TestChosen:
    def test_a_declared_export_goes_by_its_name_and_any_other_format_by_its_own(self, tmp_path: Path) -> None:
        made = project(tmp_path, exports=[{"format": "chat", "name": "tuning", "seed": 7}])
        assert chosen_export(made, "tuning").seed == 7
        assert chosen_export(made, "chat") == Export(format="chat")
        with pytest.raises(DeclarationError, match=r"\(tuning, chat, preference, .*\), found 'csv'"):
            chosen_export(made, "csv")

    def test_a_format_that_cannot_hold_the_labels_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DeclarationError, match="format: conll serves task: entities, found classification"):
            export(tmp_path, project(tmp_path), [], format="conll")
