"""Stock BERT to TurkBERT and back."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from turkbert.model import (
    TurkBertConfig,
    TurkBertForMaskedLM,
    TurkBertForNextSentencePrediction,
    TurkBertForPreTraining,
    TurkBertForQuestionAnswering,
    TurkBertForSequenceClassification,
    TurkBertForTokenClassification,
    TurkBertModel,
    conversion,
    load_stock,
    save_stock,
    to_stock,
)

CLASSES = [
    TurkBertModel,
    TurkBertForPreTraining,
    TurkBertForMaskedLM,
    TurkBertForNextSentencePrediction,
    TurkBertForSequenceClassification,
    TurkBertForTokenClassification,
    TurkBertForQuestionAnswering,
]


def assert_same_output(actual, expected) -> None:
    torch.testing.assert_close(dict(actual), dict(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_class", CLASSES, ids=lambda c: c.__name__)
def test_to_stock_gives_the_same_kind_with_the_same_outputs(config, batch, randomized, tmp_path, model_class):
    config.id2label = {0: "yok", 1: "var"}
    model = randomized(model_class(config)).eval()
    stock = to_stock(model)
    stock_class = getattr(transformers, model_class.__name__.removeprefix("Turk"))
    assert type(stock) is stock_class and type(stock.config) is transformers.BertConfig
    assert not stock.training
    assert stock.config.architectures == [stock_class.__name__]
    assert stock.config.id2label == {0: "yok", 1: "var"}
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids")}
    assert_same_output(stock(**inputs), model(**inputs))

    save_stock(model, tmp_path)
    loaded, info = stock_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert_same_output(loaded(**inputs), model(**inputs))


def test_to_stock_copies_and_draws_no_random_number(config):
    model = TurkBertForPreTraining(config).train()
    before, state = {name: p.clone() for name, p in model.named_parameters()}, torch.get_rng_state()
    stock = to_stock(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert stock.cls.predictions.decoder.weight is stock.bert.embeddings.word_embeddings.weight
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.zero_()
    torch.testing.assert_close(dict(model.named_parameters()), before)


def test_to_stock_keeps_dtype_attention_and_a_missing_pooler(config, batch):
    config._attn_implementation = "eager"
    model = TurkBertModel(config, add_pooling_layer=False).to(torch.bfloat16)
    stock = to_stock(model)
    assert stock.dtype == torch.bfloat16 and stock.pooler is None
    assert stock.config._attn_implementation == "eager"


def test_to_stock_refuses_a_class_of_someone_else():
    with pytest.raises(TypeError, match="BertModel has no stock counterpart"):
        to_stock(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1, hidden_size=12)))


def test_save_stock_files(config, tmp_path):
    config.auto_map = {"AutoModel": "somewhere.Else"}
    save_stock(TurkBertForPreTraining(config), tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "bert" and saved["architectures"] == ["BertForPreTraining"]
    assert saved["hidden_size"] == 24 and saved["num_attention_heads"] == 3
    assert not set(saved) - set(transformers.BertConfig().to_dict()) - {"architectures", "dtype"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert "cls.predictions.decoder.weight" not in load_file(tmp_path / "model.safetensors")


@pytest.mark.slow
def test_plain_transformers_loads_what_save_stock_wrote(config, batch, randomized, tmp_path):
    model = randomized(TurkBertForPreTraining(config)).eval()
    save_stock(model, tmp_path / "out")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"kelime{i}" for i in range(config.vocab_size - 5))]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]"
    ).save_pretrained(tmp_path / "out")
    script = """
        import sys
        sys.modules["turkbert"] = None  # importing it now raises ImportError
        import torch, transformers

        ids = torch.load("ids.pt")
        masked = transformers.AutoModelForMaskedLM.from_pretrained("out")(ids).logits
        pretraining = transformers.AutoModelForPreTraining.from_pretrained("out")(ids)
        base = transformers.AutoModel.from_pretrained("out")(ids)
        fill = transformers.pipeline("fill-mask", model="out")("kelime1 [MASK] kelime2", top_k=1)
        torch.save(
            [masked, pretraining.prediction_logits, pretraining.seq_relationship_logits, base.last_hidden_state,
             base.pooler_output, fill[0]["token"]],
            "outputs.pt",
        )
    """
    torch.save(batch["input_ids"], tmp_path / "ids.pt")
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "MISSING" not in run.stderr and "newly initialized" not in run.stderr
    outputs = torch.load(tmp_path / "outputs.pt")

    expected, base = model(batch["input_ids"]), model.bert(batch["input_ids"])
    filled = model(torch.tensor([[2, 6, 4, 7, 3]])).prediction_logits[0, 2].argmax()
    words, sentences = expected.prediction_logits, expected.seq_relationship_logits
    for actual, wanted in zip(
        outputs[:-1], [words, words, sentences, base.last_hidden_state, base.pooler_output], strict=True
    ):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
    assert outputs[-1] == filled


# ---- load_stock ----


@pytest.fixture
def stock(config, randomized) -> transformers.BertForPreTraining:
    return randomized(to_stock(TurkBertForPreTraining(config))).eval()


def test_load_stock_takes_all_of_a_pretraining_checkpoint(stock, batch, tmp_path):
    stock.save_pretrained(tmp_path)
    model, report = load_stock(tmp_path)
    assert type(model) is TurkBertForPreTraining
    assert type(model.config) is TurkBertConfig and model.config.model_type == "turkbert"
    assert_same_output(model(batch["input_ids"]), stock(batch["input_ids"]))
    assert report == conversion.LoadReport(stock.num_parameters(), (), (), ())
    assert str(report) == f"{stock.num_parameters():,} parameters loaded"

    model.save_pretrained(tmp_path / "ours")
    again, report = load_stock(str(tmp_path / "ours"))
    assert report.loaded == stock.num_parameters() and not report.newly_initialized
    assert_same_output(again(batch["input_ids"]), stock(batch["input_ids"]))


@pytest.mark.parametrize("model_class", CLASSES, ids=lambda c: c.__name__)
def test_from_pretrained_takes_stock_and_ends_as_turkbert(stock, batch, tmp_path, model_class):
    stock.save_pretrained(tmp_path)
    model = model_class.from_pretrained(tmp_path)
    assert model.config.model_type == "turkbert"
    ours, theirs = model.base_model(batch["input_ids"]), stock.bert(batch["input_ids"])
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "turkbert"


def test_load_stock_takes_an_old_checkpoint(stock, batch, tmp_path):
    """As of 2019: a pickle with gamma and beta, position_ids and the decoder weight, and few keys in config.json."""
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in stock.state_dict().items()
        if name != "cls.predictions.decoder.bias"
    }
    torch.save({**renamed, "bert.embeddings.position_ids": torch.arange(20)[None]}, tmp_path / "pytorch_model.bin")
    config = stock.config.to_dict()
    for name in ("classifier_dropout", "is_decoder", "add_cross_attention", "tie_word_embeddings", "use_cache"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps({**config, "position_embedding_type": "absolute"}))
    model, report = load_stock(tmp_path)
    assert (report.newly_initialized, report.ignored, report.mismatched) == ((), (), ())
    assert_same_output(model(batch["input_ids"]), stock(batch["input_ids"]))


def test_load_stock_reports_what_an_encoder_lacks(stock, batch, tmp_path):
    stock.bert.save_pretrained(tmp_path)
    model, report = load_stock(tmp_path)
    assert report.loaded == stock.bert.num_parameters()
    assert {name.split(".")[0] for name in report.newly_initialized} == {"cls"}
    assert "cls.seq_relationship.weight" in report.newly_initialized
    assert "cls.predictions.decoder.weight" not in report.newly_initialized  # it is the word embedding
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias
    assert model.cls.predictions.bias.abs().sum() == 0
    assert "newly initialised: cls.predictions.bias" in str(report)
    assert model(**batch).loss.isfinite()


def test_load_stock_reports_what_it_ignores_and_what_does_not_fit(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["cls.seq_relationship.weight"] = torch.zeros(3, 24)
    save_file({**tensors, "extra.weight": torch.ones(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    _, report = load_stock(tmp_path, ignore_mismatched_sizes=True)
    assert report.ignored == ("extra.weight",)
    assert report.mismatched == ("cls.seq_relationship.weight",)
    assert report.loaded == stock.num_parameters() - 2 * 24
    assert str(report).splitlines()[1:] == [
        "ignored: extra.weight",
        "of another shape, newly initialised: cls.seq_relationship.weight",
    ]


def test_load_stock_gives_float32_unless_told(stock, tmp_path):
    stock.to(torch.float16).save_pretrained(tmp_path)
    assert load_stock(tmp_path)[0].dtype == torch.float32
    assert load_stock(tmp_path, dtype=torch.float16)[0].dtype == torch.float16


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """What would have been read, from a folder or the Hub."""
    names = []

    def record(name, **kwargs):
        names.append(str(name))
        raise OSError("not in this test")

    monkeypatch.setattr(conversion.PreTrainedConfig, "get_config_dict", record)
    return names


@pytest.mark.parametrize(
    "name",
    ["", "./out", "../out", "/no/such", "~/no such", Path("out"), "out/", "a/b/c", "a\\b", "file.txt", "here/typo"],
)
def test_a_mistyped_path_never_goes_to_the_hub(asked, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    (tmp_path / "here").mkdir()
    with pytest.raises(ValueError, match="no such folder"):
        load_stock(name)
    assert asked == []


@pytest.mark.parametrize("name", ["bert-base-turkish", "dbmdz/bert-base-turkish-cased", "here"])
def test_folders_and_hub_ids_are_asked_for(asked, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(OSError, match="not in this test"):
        load_stock(name)
    assert asked == [name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "model_type in config.json is 'roberta'"),
        ({"model_type": None}, "model_type in config.json is None"),
        ({"auto_map": {"AutoModel": "modeling_x.X"}}, "auto_map"),
        ({"position_embedding_type": "relative_key_query"}, "position_embedding_type is 'relative_key_query'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"num_attention_heads": 5}, "hidden_size 24 is not divisible by num_attention_heads 5"),
    ],
)
def test_load_stock_refuses_what_is_no_plain_bert(stock, tmp_path, change, message):
    stock.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=message) as error:
        load_stock(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_load_stock_never_trusts_remote_code(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_stock(tmp_path, trust_remote_code=True)
