"""Every form of export, loaded by the library it is for and compared with the model it came from."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    pipeline,
)

from tests.hub_stand_in import hub  # noqa: F401
from tests.script_calls import callable_script, load_script
from tests.tiny_models import model_dirs  # noqa: F401
from turkbert.artifacts import find_damage, read_manifest
from turkbert.errors import BAD_CONFIG, BAD_INPUT, CORRUPT_ARTIFACT, ENVIRONMENT, UserError
from turkbert.export import default_dir, export_model, formats, load_source
from turkbert.export.onnx import largest_difference

TEXT, PAIR = "Akşam olunca denizin üstünde ışıklar yanar.", ("Yağmur başladı.", "Şemsiyemi açtım.")
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}
STOCK = {"config.json", "model.safetensors", "README.md", *TOKENIZER}


@pytest.fixture(scope="module")
def script():
    return load_script("export")


@pytest.fixture
def export(script, monkeypatch, capsys):
    with callable_script(script, monkeypatch, capsys) as call:
        yield call


def same_tokenizer(folder: Path, other: Path) -> bool:
    texts = ["IRMAK İstanbul’un ışığı 3,14", *PAIR]
    first, second = (AutoTokenizer.from_pretrained(path) for path in (folder, other))
    return first(texts)["input_ids"] == second(texts)["input_ids"]


@pytest.mark.parametrize("layout", ["stock", "checkpoint"])
def test_stock_layout_keeps_all_heads(export, model_dirs, tmp_path, layout):  # noqa: F811
    out = tmp_path / "plain"
    code, stdout, err = export(model_dirs[layout], "--stock", "--output_dir", out)
    assert (code, stdout, err) == (0, f"{out} holds {model_dirs[layout]} as stock\n", "")
    assert {path.name for path in out.iterdir()} == STOCK | {"MANIFEST.json"} and find_damage(out) is None
    assert json.loads((out / "config.json").read_text())["model_type"] == "bert"
    assert same_tokenizer(out, model_dirs["stock"])
    got, want = (load_file(folder / "model.safetensors") for folder in (out, model_dirs["stock"]))
    assert got.keys() == want.keys() and all(torch.equal(got[name], want[name]) for name in want)
    assert str(tmp_path).encode() not in b"".join(path.read_bytes() for path in out.iterdir())


@pytest.mark.parametrize(("form", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision(model_dirs, tmp_path, form, dtype):  # noqa: F811
    export_model(model_dirs["checkpoint"], form, tmp_path / "half")
    weights, want = (load_file(f / "model.safetensors") for f in (tmp_path / "half", model_dirs["stock"]))
    assert all(torch.equal(weights[name], want[name].to(dtype)) for name in want)
    assert AutoConfig.from_pretrained(tmp_path / "half").dtype == dtype
    assert BertForPreTraining.from_pretrained(tmp_path / "half").dtype == dtype


def test_a_weight_beyond_half_precision_is_refused(tmp_path, model_dirs):  # noqa: F811
    model = BertForMaskedLM.from_pretrained(model_dirs["stock"])
    model.bert.embeddings.LayerNorm.weight.data[0] = 1e6
    large = shutil.copytree(model_dirs["stock"], tmp_path / "large")
    model.save_pretrained(large)
    with pytest.raises(UserError, match="a weight is beyond 65,504, the largest number there; choose --bf16"):
        export_model(large, "fp16", tmp_path / "half")
    assert not (tmp_path / "half").exists()
    export_model(large, "bf16", tmp_path / "half")


def test_a_model_keeps_the_heads_it_has(tmp_path, model_dirs, sample_tokenizer):  # noqa: F811
    config = AutoConfig.from_pretrained(model_dirs["stock"], num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    for name, model in {
        "classifier": BertForSequenceClassification(config),
        "encoder": BertModel(config, add_pooling_layer=False),
        "masked": BertForMaskedLM(config),
    }.items():
        folder = shutil.copytree(model_dirs["stock"], tmp_path / name)
        model.eval().save_pretrained(folder)
        source = load_source(folder)
        assert type(source.model) is type(model)
        assert source.model.state_dict().keys() == model.state_dict().keys()
        assert source.model.config.id2label == config.id2label
        inputs = sample_tokenizer(TEXT, return_tensors="pt")
        with torch.no_grad():
            assert torch.equal(source.model(**inputs)[0], model(**inputs)[0])


@pytest.fixture(scope="module")
def onnx_dir(model_dirs, tmp_path_factory) -> Path:  # noqa: F811
    """A checkpoint with all heads as ONNX: seconds, so once. Not to be changed."""
    pytest.importorskip("onnxruntime")
    return export_model(model_dirs["checkpoint"], "onnx", tmp_path_factory.mktemp("onnx") / "onnx")


def compare_with_pytorch(folder: Path, model: PreTrainedModel) -> None:
    """Every output, on batches of texts and pairs with padding."""
    session = pytest.importorskip("onnxruntime").InferenceSession(folder / "model.onnx")
    assert [node.shape for node in session.get_inputs()] == [["batch", "length"]] * 3
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for texts in ([TEXT], [TEXT, "Çay."], [(TEXT, "Çay."), PAIR, PAIR]):
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            outputs = dict(model(**inputs, output_hidden_states=True))
        expected = {**outputs, "last_hidden_state": outputs["hidden_states"][-1]}
        del expected["hidden_states"]
        assert list(expected) == [node.name for node in session.get_outputs()]
        for name, got in zip(expected, session.run(None, {k: v.numpy() for k, v in inputs.items()}), strict=True):
            np.testing.assert_allclose(got, expected[name].numpy(), atol=1e-4, rtol=1e-4, err_msg=name)


def test_onnx_says_what_pytorch_says(onnx_dir, model_dirs):  # noqa: F811
    names = {path.name for path in onnx_dir.iterdir()}
    assert names == {"model.onnx", "config.json", "README.md", "MANIFEST.json", *TOKENIZER}
    compare_with_pytorch(onnx_dir, BertForPreTraining.from_pretrained(model_dirs["checkpoint"]))


@pytest.mark.slow
def test_onnx_of_a_model_with_other_heads(model_dirs, tmp_path):  # noqa: F811
    folder = export_model(model_dirs["stock_masked_lm"], "onnx", tmp_path / "onnx")
    compare_with_pytorch(folder, BertForMaskedLM.from_pretrained(model_dirs["stock_masked_lm"]))


def test_onnx_that_computes_something_else_is_refused(onnx_dir, model_dirs, tmp_path, monkeypatch):  # noqa: F811
    from turkbert.export import onnx

    class Wrong:
        def __init__(self, session):
            self.session = session

        def run(self, names, inputs):  # as if padding were not masked
            return self.session.run(names, {**inputs, "attention_mask": np.ones_like(inputs["attention_mask"])})

    monkeypatch.setattr(torch.onnx, "export", lambda *args, **_: shutil.copy(onnx_dir / "model.onnx", args[2]))
    export_model(model_dirs["checkpoint"], "onnx", tmp_path / "right")
    monkeypatch.setattr(onnx, "largest_difference", lambda outputs, s: largest_difference(outputs, Wrong(s)))
    with pytest.raises(UserError, match="from PyTorch") as error:
        export_model(model_dirs["checkpoint"], "onnx", tmp_path / "wrong")
    assert error.value.exit_code == ENVIRONMENT and [path.name for path in tmp_path.glob("[!.]*")] == ["right"]


@pytest.mark.parametrize("layout", ["checkpoint", "masked_lm"])
def test_sentence_transformers_loads_it(model_dirs, tmp_path, layout):  # noqa: F811
    library = pytest.importorskip("sentence_transformers")
    export_model(model_dirs[layout], "sentence_transformers", tmp_path / "embedder")
    model = library.SentenceTransformer(str(tmp_path / "embedder"), device="cpu")
    texts = [TEXT, "Çay.", " ".join([TEXT] * 30)]
    embed = pipeline("text-embedding", model=str(model_dirs[layout]), pooling="mean")
    np.testing.assert_allclose(model.encode(texts), embed(texts), atol=1e-5)
    assert model.max_seq_length == 64 and same_tokenizer(tmp_path / "embedder", model_dirs["stock"])


def test_vectors_that_differ_are_refused(model_dirs, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("sentence_transformers")
    files = formats._sentence_transformers_files

    def with_cls(longest: int, width: int) -> dict:
        pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        return {**files(longest, width), "1_Pooling/config.json": {"word_embedding_dimension": width, **pooling}}

    monkeypatch.setattr(formats, "_sentence_transformers_files", with_cls)
    with pytest.raises(UserError, match="from those of the pipeline"):
        export_model(model_dirs["stock"], "sentence_transformers", tmp_path / "embedder")


@pytest.mark.parametrize(
    ("form", "package"),
    [("onnx", "onnx"), ("onnx", "onnxruntime"), ("onnx", "onnxscript"), ("sentence_transformers",) * 2],
)
def test_a_missing_package_is_one_line(export, model_dirs, tmp_path, monkeypatch, form, package):  # noqa: F811
    if form == "onnx" and package != "onnx" and importlib.util.find_spec("onnx") is None:
        pytest.skip("onnx is not installed, and named first")
    monkeypatch.setitem(sys.modules, package, None)
    code, out, err = export(model_dirs["stock"], f"--{form}", "--output_dir", tmp_path / "x")
    assert (code, out) == (BAD_CONFIG, "") and not (tmp_path / "x").exists()
    assert err == f'turkbert: error: {form}: needs the package {package}; pip install "turkbert[export]"\n'


def test_the_same_export_is_found_another_is_not_replaced_unasked(export, model_dirs, tmp_path):  # noqa: F811
    out = tmp_path / "x"
    assert export(model_dirs["stock"], "--stock", "--output_dir", out)[0] == 0
    before = (out / "MANIFEST.json").stat().st_mtime_ns
    assert export(f"{model_dirs['stock']}/", "--stock", "--output_dir", out)[0] == 0
    assert (out / "MANIFEST.json").stat().st_mtime_ns == before
    code, _, err = export(model_dirs["stock"], "--bf16", "--output_dir", out)
    assert code == BAD_CONFIG and 'made with export "stock", now "bf16"' in err
    assert "--overwrite true" in err  # as it is typed in all other scripts
    assert export(model_dirs["stock"], "--bf16", "--output_dir", out, "--overwrite", "true")[0] == 0
    assert AutoConfig.from_pretrained(out).dtype == torch.bfloat16
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("ten years")
    for folder in (tmp_path / "mine", model_dirs["stock"]):
        code, _, err = export(model_dirs["stock"], "--stock", "--output_dir", folder, "--overwrite")
        assert code == BAD_CONFIG and re.fullmatch(r"turkbert: error: .+\n", err)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("place", [".", "afile", "afile/x"])
def test_where_no_folder_can_be_is_one_line(export, model_dirs, tmp_path, monkeypatch, place):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("ten years")
    code, out, err = export(model_dirs["stock"], "--stock", "--output_dir", place, "--overwrite")
    assert (code, out) == (BAD_CONFIG, "") and re.fullmatch(r"turkbert: error: .+; choose another .+\n", err)
    assert (tmp_path / "afile").read_text() == "ten years"


def test_a_full_disk_is_one_line_and_leaves_nothing(export, model_dirs, tmp_path, monkeypatch):  # noqa: F811
    def fill_the_disk(*_args, **_options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(BertForPreTraining, "save_pretrained", fill_the_disk)
    code, out, err = export(model_dirs["stock"], "--stock", "--output_dir", tmp_path / "x")
    assert (code, out) == (ENVIRONMENT, "") and re.fullmatch(r"turkbert: error: .+ the disk is too full: .+\n", err)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_a_run_s_output_folder_is_never_replaced(model_dirs, tmp_path, sample_dir, sample_prepared):  # noqa: F811
    block = sample_dir / "data" / "block_32"
    with pytest.raises(UserError, match="holds something else than an export"):
        export_model(model_dirs["stock"], "stock", block, overwrite=True)
    assert find_damage(block) is None


def test_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_dir("runs/out/", "onnx") == Path("out-onnx")
    assert default_dir("dbmdz/bert-base-turkish-cased", "fp16") == Path("bert-base-turkish-cased-fp16")
    assert default_dir(".", "bf16") == Path(f"{tmp_path.name}-bf16")


def test_card_keeps_what_the_model_s_own_says(model_dirs, tmp_path):  # noqa: F811
    folder = shutil.copytree(model_dirs["stock"], tmp_path / "out")
    (folder / "README.md").write_text("---\nlanguage: tr\nlibrary_name: x\n---\n\n# My BERT\n\nLong story.\n")
    export_model(folder, "bf16", tmp_path / "half", hub_model_id="ada/my-bert")
    card = (tmp_path / "half" / "README.md").read_text()
    assert "language: tr" in card and "# My BERT\n\nLong story." in card
    assert 'AutoTokenizer.from_pretrained("ada/my-bert")' in card
    export_model(model_dirs["stock"], "stock", tmp_path / "bare")
    assert "# bare\n" in (tmp_path / "bare" / "README.md").read_text()


def run_snippet(card: Path) -> None:
    exec(compile(re.findall(r"```python\n(.*?)\n```", card.read_text("utf-8"), re.DOTALL)[-1], "card", "exec"), {})


@pytest.mark.parametrize("form", ["stock", "sentence_transformers"])
def test_the_card_s_snippet_runs(model_dirs, tmp_path, monkeypatch, capsys, form):  # noqa: F811
    pytest.importorskip({"stock": "torch"}.get(form, form))
    monkeypatch.chdir(tmp_path)
    run_snippet(export_model(model_dirs["stock"], form, Path("mine")) / "README.md")
    assert re.search(r"32\]|tensor\(", capsys.readouterr().out)


def test_the_onnx_card_s_snippet_runs(onnx_dir, monkeypatch, capsys):
    monkeypatch.chdir(onnx_dir.parent)
    run_snippet(onnx_dir / "README.md")
    shapes = r"'prediction_logits': \(1, \d+, 2000\), 'seq_relationship_logits': \(1, 2\)"
    assert re.search(shapes, capsys.readouterr().out)


def test_push(export, model_dirs, tmp_path, hub):  # noqa: F811
    out = tmp_path / "my-half"
    code, stdout, err = export(model_dirs["stock"], "--bf16", "--output_dir", out, "--push_to_hub")
    assert code == 0 and "error" not in err and stdout.endswith("pushed to ada/my-half\n")
    repository = hub.model("my-half")
    manifest = read_manifest(out)
    assert repository.files == {name: (out / name).read_bytes() for name in manifest["files"]}
    assert set(repository.files) == STOCK and repository.private and hub.refused == []
    (tag,) = repository.tags
    assert re.fullmatch(r"bf16-[0-9a-f]{8}", tag) and repository.tags[tag] == repository.branches["main"]


def test_push_to_a_branch_in_the_open_or_not_at_all(export, model_dirs, tmp_path, hub, monkeypatch):  # noqa: F811
    def push(*more: str) -> tuple[int, str, str]:
        command = (model_dirs["stock"], "--stock", "--output_dir", tmp_path / "x", "--push_to_hub")
        return export(*command, "--hub_model_id", "ada/bert", *more)

    assert push("--hub_revision", "trial", "--hub_private_repo", "false")[0] == 0
    repository = hub.model("bert")
    assert not repository.private and repository.files == {}
    assert "model.safetensors" in repository.commits[repository.branches["trial"]]
    code, _, err = push()
    assert code == BAD_INPUT and "this repository is public already" in err
    monkeypatch.setattr("turkbert.hub.PAUSES", (0.0, 0.0))
    hub.fail_when = lambda call: "commit" in call
    code, _, err = push("--hub_private_repo", "false")
    assert code == ENVIRONMENT and f"the export is in {tmp_path / 'x'}: run the same command again" in err
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    code, out, err = push()
    assert (code, out) == (BAD_CONFIG, "") and "no Hub token found" in err


def test_what_is_no_bert_is_refused(export, model_dirs, tmp_path):  # noqa: F811
    folder = shutil.copytree(model_dirs["stock"], tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "roberta"}))
    code, out, err = export(folder, "--stock", "--output_dir", tmp_path / "x")
    assert (code, out) == (BAD_INPUT, "") and "model_type in config.json is 'roberta'" in err
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForTokenClassification"]}))
    code, _, err = export(folder, "--stock", "--output_dir", tmp_path / "x")
    assert code == CORRUPT_ARTIFACT and "the weights lack classifier" in err
    assert export(model_dirs["stock"])[0] == BAD_CONFIG  # no form named
