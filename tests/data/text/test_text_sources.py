"""Text in every form becomes sequences of tokens, and what cannot is refused in one line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.language import (
    LINES,
    TEXT,
    OwnLanguageModel,
    causal,
    encoder,
    folder,
    pairs,
    tokenizer,
    trained,
)
from tsdistill import TsdistillError, load, open_data, text_spec
from tsdistill.data.training_data import open_training

IDS = [each for line in LINES * 6 for each in tokenizer()(line)["input_ids"]]


def _spec(model: Any, length: int | None = 8, how: Any = None) -> Any:
    chosen = {"tokenizer": tokenizer() if how is None else how, "length": length}
    return text_spec(model, {name: value for name, value in chosen.items() if value is not None})


def _rows(data: Any, spec: Any, **options: Any) -> list[Any]:
    return list(open_data(data, spec, {"batch_size": 1, **options}))


def _ids(data: Any, spec: Any) -> list[int]:
    return [each for x, _ in _rows(data, spec) for each in x["input_ids"][0].tolist()]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(json.dumps({"id": n, "text": line}) for n, line in enumerate(LINES * 6)))
    return path


def test_a_text_file_is_packed_into_sequences_whose_labels_are_the_next_tokens(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    stream = open_data(str(path), _spec(causal()), {"batch_size": 4})
    assert (stream.samples, stream.labelled, stream.synthetic) == (len(IDS) // 8, True, False)
    assert _ids(str(path), _spec(causal())) == IDS[: len(IDS) // 8 * 8]
    for x, y in stream:
        assert set(x) == {"input_ids"}
        assert torch.equal(y[:, :-1], x["input_ids"][:, 1:])
        assert (y[:, -1] == -100).all()


@pytest.mark.parametrize("how", ["", ":text"])
def test_lines_of_json_are_documents_with_the_end_of_a_text_between_them(records: Path, how: str) -> None:
    ends = [each for line in LINES * 6 for each in (*tokenizer()(line)["input_ids"], 5)][:-1]
    assert _ids(f"{records}{how}", _spec(causal())) == ends[: len(ends) // 8 * 8]


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, lines in (("b/1.md", LINES[5:]), ("a.txt", LINES[:5])):
        (tmp_path / name).write_text("\n".join(lines))
    first = tokenizer()("\n".join(LINES[:5]))["input_ids"]
    assert _ids(str(tmp_path), _spec(causal()))[: len(first) + 1] == [*first, 5]


def test_token_files_are_cut_into_sequences_or_taken_by_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.array(IDS, np.int32))
    np.save(tmp_path / "rows.npy", np.array(IDS[:60], np.int64).reshape(6, 10))
    spec = _spec(causal())
    assert _ids(str(tmp_path / "flat.npy"), spec) == IDS[: len(IDS) // 8 * 8]
    assert _rows(str(tmp_path / "rows.npy"), spec)[0][0]["input_ids"].shape == (1, 8)
    assert _rows(str(tmp_path / "rows.npy"), replace(spec, stated=False))[0][0]["input_ids"].shape == (1, 10)


def test_python_objects_give_what_their_file_gives(tmp_path: Path) -> None:
    spec = _spec(causal())
    from_list = _ids(list(LINES * 6), spec)
    assert from_list == _ids([{"text": line} for line in LINES * 6], spec) == _ids(iter(LINES * 6), spec)
    assert _ids(np.array(IDS), spec) == _ids(torch.tensor(IDS), spec) == IDS[: len(IDS) // 8 * 8]


def test_a_tokenizer_of_any_library_serves(tmp_path: Path) -> None:
    trained().save(str(tmp_path / "tokenizer.json"))

    class Own:
        def encode(self, text: str) -> list[int]:
            return trained().encode(text).ids

    one = [TEXT]
    expected = _ids(one, _spec(causal()))
    for each in (trained(), str(tmp_path / "tokenizer.json"), Own()):
        assert _ids(one, _spec(causal(), how=each)) == expected


def test_an_endless_iterator_stays_a_stream() -> None:
    seen = 0

    def lines() -> Iterator[str]:
        nonlocal seen
        for line in itertools.cycle(LINES):
            seen += 1
            yield line

    stream = open_data(lines(), _spec(causal()), {"samples": 5, "batch_size": 2})
    assert sum(len(x["input_ids"]) for x, _ in stream) == 5
    assert seen < 12
    again = [x["input_ids"] for x, _ in stream]
    assert all(map(torch.equal, again, [x["input_ids"] for x, _ in stream]))


def test_a_large_file_stays_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    expected = _ids(str(path), _spec(causal()))
    monkeypatch.setattr("tsdistill.data.text.text_sources.IN_MEMORY", 10)
    monkeypatch.setattr("tsdistill.data.text.documents._BLOCK", 100)
    stream = open_data(str(path), _spec(causal()), {"samples": 3})
    assert stream.samples is None
    assert _ids(str(path), _spec(causal())) == expected
    assert stream.held_out(2) is not None


def test_a_data_set_of_the_hub_s_library_is_read_by_field(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"body": list(LINES * 6), "n": list(range(60))})
    table.save_to_disk(str(tmp_path / "set"))
    spec = _spec(causal())
    expected = _ids(list(LINES * 6), spec)
    assert _ids(f"hfds/{tmp_path}/set:body", spec) == expected
    assert _ids(table.rename_column("body", "text"), spec) == expected
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in LINES * 6))
    place = f"hfds/{tmp_path}/files,split=train,streaming=true"
    assert open_data(place, spec, {"samples": 3}).samples is None
    with pytest.raises(TsdistillError, match="no field 'nothing'; it has body, n"):
        _rows(f"hfds/{tmp_path}/set:nothing", spec)


def test_conversations_go_through_the_chat_template(tmp_path: Path) -> None:
    chat = [[{"role": "user", "content": LINES[0]}, {"role": "assistant", "content": LINES[1]}]] * 4
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps({"messages": each}) for each in chat))
    spec = _spec(causal(), how=tokenizer(chat=True))
    one = tokenizer()(f"user : {LINES[0]} </s> assistant : {LINES[1]} </s> ")["input_ids"]
    assert _ids(str(path), spec) == _ids(chat, spec) == (one * 4)[: len(one) * 4 // 8 * 8]
    with pytest.raises(TsdistillError, match="no chat template"):
        _rows(str(path), _spec(causal()))


def test_a_masked_model_has_to_tell_hidden_tokens_the_same_ones_every_time() -> None:
    spec = _spec(encoder("BertForMaskedLM"))
    rows = _rows([TEXT], spec)
    for (x, y), (again, _) in zip(rows, _rows([TEXT], spec), strict=True):
        assert torch.equal(x["input_ids"], again["input_ids"])
        assert 1 <= int((y != -100).sum()) < 8
    hidden = torch.cat([x["input_ids"][y != -100] for x, y in rows])
    assert (hidden == 2).float().mean() > 0.5
    with pytest.raises(TsdistillError, match="no mask"):
        _rows([TEXT], _spec(encoder("BertForMaskedLM"), how=trained()))


def test_a_classifier_reads_a_text_a_row_with_its_label_and_a_mask(tmp_path: Path) -> None:
    spec = _spec(encoder("BertForSequenceClassification"), length=16)
    path = tmp_path / "a.jsonl"
    texts = ["the cat", "the dog ran to the river"]
    labels = ("bad", "good")
    lines = (json.dumps({"text": t, "label": w}) for t, w in zip(texts, labels, strict=True))
    path.write_text("\n".join(lines))
    (x, y) = next(iter(open_data(str(path), spec, {"batch_size": 2})))
    assert x["attention_mask"].sum(1).tolist() == [2, 6]
    assert x["input_ids"].shape == (2, 6)
    assert y.tolist() == [0, 1]
    assert (x["input_ids"][0, 2:] == 0).all()
    (tmp_path / "a.txt").write_text("\n".join(texts) + "\n\n")
    assert [y for _, y in _rows(str(tmp_path / "a.txt"), spec)] == [None, None]
    path.write_text(json.dumps({"text": "the cat", "label": "ugly"}))
    with pytest.raises(TsdistillError, match="no class 'ugly'; it has bad, good"):
        _rows(str(path), spec)


def test_an_encoder_decoder_reads_pairs(tmp_path: Path) -> None:
    spec = _spec(pairs(), length=16)
    path = tmp_path / "a.jsonl"
    two = [{"q": "the cat sat", "a": "the dog"}, {"q": "the river", "a": "in the town a man"}]
    path.write_text("\n".join(map(json.dumps, two)))
    (tmp_path / "a.txt").write_text("\n".join(f"{each['q']}\t{each['a']}" for each in two))
    (x, y) = next(iter(open_data(f"{path}:q,a", spec)))
    (same, labels) = next(iter(open_data(str(tmp_path / "a.txt"), spec)))
    assert all(torch.equal(x[name], same[name]) for name in x)
    assert torch.equal(y, labels)
    assert y[0].tolist() == [*tokenizer()("the dog")["input_ids"], -100, -100, -100]
    assert x["decoder_input_ids"][0].tolist() == [0, *y[0, :2].tolist(), 0, 0]
    assert x["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    with pytest.raises(TsdistillError, match="reads pairs of texts"):
        _rows(str(_written(tmp_path / "b.txt", "one")), spec)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_module_of_one_s_own_is_given_one_tensor() -> None:
    spec = _spec(OwnLanguageModel())
    x, y = next(iter(open_data([TEXT], spec, {"batch_size": 3})))
    assert x.shape == y.shape == (3, 8)
    assert text_spec(OwnLanguageModel()) is None


def test_training_reads_the_same_sequences(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.txt", TEXT)
    data = open_training(str(path), _spec(causal()), batch_size=4)
    assert (data.samples, data.length, data.labels) == (len(IDS) // 8, len(IDS) // 32, None)
    batch = next(iter(data.batches(0)))
    assert batch.x["input_ids"].shape == (4, 8)
    assert torch.equal(batch.y[:, :-1], batch.x["input_ids"][:, 1:])
    streamed = open_training(iter(LINES * 6), _spec(causal()), batch_size=4)
    assert next(iter(streamed.batches(0))).x["input_ids"].shape == (4, 8)


def test_padded_rows_of_tokens_are_masked_and_not_judged() -> None:
    rows = np.array([[7, 8, 9, -1], [7, 8, 9, 10]])
    (x, y), (full, _) = _rows(rows, _spec(causal()))
    assert x["attention_mask"].tolist() == [[1, 1, 1, 0]]
    assert y.tolist() == [[8, 9, -100, -100]]
    assert "attention_mask" not in full


def test_batches_and_loaders_are_taken_as_they_are() -> None:
    x = torch.randint(0, 60, (4, 8))
    spec = _spec(causal())
    loader: Any = DataLoader(TensorDataset(x), batch_size=4)
    forms: list[Any] = [[(x, None)], [{"input_ids": x}], iter([{"input_ids": x}]), loader]
    for data in forms:
        rows = _rows(data, spec)
        assert len(rows) == 1
        assert rows[0][1] is None


def test_a_batch_has_no_more_scores_than_memory_is_for() -> None:
    spec = replace(_spec(causal()), vocabulary=2**22)
    assert spec.largest_batch == 2
    assert len(next(iter(open_data([TEXT], spec)))[0]["input_ids"]) == 2


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("the cat", {}, "holds 2 tokens, fewer than one sequence of 8; give more text or a smaller length"),
        ("", {}, "holds 0 tokens, fewer than one sequence"),
        (b"caf\xe9 " * 30, {}, "is not UTF-8"),
        (TEXT, {"vocabulary": 20}, "beyond|the model knows 20 tokens: the tokenizer does not fit the model"),
        (TEXT, {"tokenizer": None}, "nothing says which one"),
        (TEXT, {"tokenizer": "/nowhere"}, "no such folder or file"),
        (TEXT, {"tokenizer": 3}, "a int cannot encode text"),
    ],
)
def test_text_that_cannot_be_read(tmp_path: Path, text: Any, how: Any, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TsdistillError, match=message) as raised:
        _rows(str(path), replace(_spec(causal()), **how))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ('{"text": "a"}', ":body", "line 1: there is no field 'body'; it has text"),
        ('{"n": 1}', "", "line 1: there is no field with the text; it has n"),
        ('{"text": 1}', "", "line 1: 'text' is a int"),
        ("{", "", "line 1 cannot be read"),
        ("[1, 2]", "", "line 1: a list is no text"),
        ('{"text": "a"}', ":a,b", "reads one text, not two fields"),
    ],
)
def test_lines_of_json_that_cannot_be_read(tmp_path: Path, line: str, field: str, message: str) -> None:
    path = _written(tmp_path / "a.jsonl", line)
    with pytest.raises(TsdistillError, match=message):
        _rows(f"{path}{field}", _spec(causal()))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.full((2, 4), -1), "row 0 of the array is padding everywhere"),
        (np.array([1, 2, 3]), "holds 3 tokens, fewer than one sequence of 8"),
        (np.full((2, 4), 99), "token id 99 and the model knows 60"),
    ],
)
def test_tokens_that_cannot_be_read(tokens: np.ndarray, message: str) -> None:
    with pytest.raises(TsdistillError, match=message):
        _rows(tokens, _spec(causal()))


def test_places_that_hold_no_text(tmp_path: Path) -> None:
    for place, message in (
        (str(tmp_path), "holds no text"),
        (str(_written(tmp_path / "a.bin", "x")), "neither .txt, .jsonl nor .npy"),
        ("mnist:/data", "mnist holds none"),
        (str(tmp_path / "no.txt"), "there is no file or folder"),
        ("synthetic:pink", "synthetic holds none"),
    ):
        with pytest.raises(TsdistillError, match=message):
            _rows(place, _spec(causal()))


def test_the_folder_of_a_model_is_named_as_it_is_and_has_its_tokenizer(tmp_path: Path) -> None:
    place = folder(causal(), tmp_path / "model")
    model = load(place, inputs={"length": 8})
    spec = text_spec(model)
    assert (spec.tokenizer, spec.length, spec.vocabulary) == (str(place), 8, 60)
    assert _ids([TEXT], spec) == IDS[: len(IDS) // 8 * 8]


def test_the_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    spec = replace(_spec(OwnLanguageModel(), how="name/of-hub"))
    with pytest.raises(TsdistillError, match=r"needs transformers.*pip install tsdistill\[hf\]"):
        _rows([TEXT], spec)
