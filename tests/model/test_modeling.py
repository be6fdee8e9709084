"""The TurkBERT models against transformers' BERT, and what only they can do."""

import copy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors import safe_open

from turkbert.model import (
    TurkBertConfig,
    TurkBertForMaskedLM,
    TurkBertForNextSentencePrediction,
    TurkBertForPreTraining,
    TurkBertForQuestionAnswering,
    TurkBertForSequenceClassification,
    TurkBertForTokenClassification,
    TurkBertModel,
    modeling_turkbert,
)
from turkbert.model.dropout import Dropout

CONFIGS = {
    "default": {},
    "wide": {"hidden_size": 32, "num_attention_heads": 1, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    "deep": {"num_hidden_layers": 4, "hidden_act": "relu", "type_vocab_size": 3, "pad_token_id": None},
}


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters()}


def assert_same(actual, expected) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def positions_of(labels: torch.Tensor) -> torch.Tensor:
    return torch.tensor([i for i, label in enumerate(labels.flatten().tolist()) if label != -100])


# ---- the oracle ----


@pytest.mark.parametrize("overrides", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_pretraining_equals_stock(oracle_pair, batch, pad, overrides, attention, padded):
    batch = pad(batch) if padded else batch
    ours, stock = oracle_pair(TurkBertForPreTraining, transformers.BertForPreTraining, attention, **overrides)

    output, expected = ours(**batch), stock(**batch)
    labelled = batch["labels"] != -100
    assert_same(output.prediction_logits, expected.prediction_logits[labelled])
    assert_same(output.seq_relationship_logits, expected.seq_relationship_logits)
    assert_same(output.mlm_loss, F.cross_entropy(expected.prediction_logits.transpose(1, 2), batch["labels"]))
    assert_same(output.nsp_loss, F.cross_entropy(expected.seq_relationship_logits, batch["next_sentence_label"]))
    assert_same(output.loss, expected.loss)

    output.loss.backward()
    expected.loss.backward()
    assert_same(gradients(ours), gradients(stock))

    batch.pop("labels"), batch.pop("next_sentence_label")
    unlabelled = ours(**batch)
    assert unlabelled.loss is None
    assert_same(unlabelled.prediction_logits, expected.prediction_logits)


def test_dropout_falls_where_stock_puts_it(oracle_pair, batch, monkeypatch):
    monkeypatch.setattr(modeling_turkbert, "fast_dropout", F.dropout)  # with the numbers that stock draws
    monkeypatch.setattr(Dropout, "forward", torch.nn.Dropout.forward)
    dropout = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
    ours, stock = oracle_pair(TurkBertForPreTraining, transformers.BertForPreTraining, "eager", **dropout)
    losses = []
    for model in (ours.train(), stock.train()):
        torch.manual_seed(1)
        losses.append(model(**batch).loss)
    assert_same(*losses)
    assert abs(losses[0] - ours.eval()(**batch).loss) > 1e-3


def test_hidden_states_and_attentions_equal_stock(oracle_pair, batch, pad):
    ours, stock = oracle_pair(TurkBertModel, transformers.BertModel, "eager")
    padded = pad(batch)
    inputs = {name: padded[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    output = ours(**inputs, output_hidden_states=True, output_attentions=True)
    expected = stock(**inputs, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 3 and len(output.attentions) == 2
    assert_same(output.hidden_states, expected.hidden_states)
    assert_same(output.attentions, expected.attentions)
    assert_same(output.pooler_output, expected.pooler_output)


def test_inputs_embeds_and_position_ids_equal_stock(oracle_pair, batch):
    ours, stock = oracle_pair(TurkBertModel, transformers.BertModel)
    inputs = {"inputs_embeds": torch.randn(4, 14, 24), "position_ids": torch.arange(14).flip(0)[None]}
    assert_same(ours(**inputs).last_hidden_state, stock(**inputs).last_hidden_state)
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        ours(input_ids=batch["input_ids"], **inputs)


HEADS = {
    "masked_lm": (TurkBertForMaskedLM, {}, lambda b: {"labels": b["labels"]}),
    "next_sentence": (TurkBertForNextSentencePrediction, {}, lambda b: {"labels": b["next_sentence_label"]}),
    "single_label": (
        TurkBertForSequenceClassification,
        {"num_labels": 3},
        lambda b: {"labels": torch.tensor([2, 0, 1, 1])},
    ),
    "multi_label": (
        TurkBertForSequenceClassification,
        {"num_labels": 3},
        lambda b: {"labels": torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]])},
    ),
    "regression": (
        TurkBertForSequenceClassification,
        {"num_labels": 1},
        lambda b: {"labels": torch.tensor([0.5, -1.0, 2.0, 0.0])},
    ),
    "token": (
        TurkBertForTokenClassification,
        {"num_labels": 5},
        lambda b: {"labels": torch.where(b["labels"] == -100, -100, b["labels"] % 5)},
    ),
    "question": (
        TurkBertForQuestionAnswering,
        {},
        lambda b: {"start_positions": torch.tensor([1, 3, 0, 99]), "end_positions": torch.tensor([4, 3, 2, 99])},
    ),
}


@pytest.mark.parametrize(("our_class", "overrides", "make_labels"), HEADS.values(), ids=HEADS.keys())
def test_heads_equal_stock(oracle_pair, batch, pad, our_class, overrides, make_labels):
    stock_class = getattr(transformers, our_class.__name__.removeprefix("Turk"))
    ours, stock = oracle_pair(our_class, stock_class, **overrides)
    padded = pad(batch)
    inputs = {name: padded[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    assert_same(dict(ours(**inputs)), dict(stock(**inputs)))

    output, expected = ours(**inputs, **make_labels(padded)), stock(**inputs, **make_labels(padded))
    assert_same(output.loss, expected.loss)
    output.loss.backward()
    expected.loss.backward()
    assert_same(gradients(ours), gradients(stock))


def test_classifier_dropout_defaults_to_hidden_dropout(config):
    config.hidden_dropout_prob, config.classifier_dropout = 0.3, None
    assert TurkBertForTokenClassification(config).dropout.p == 0.3
    config.classifier_dropout = 0.0
    assert TurkBertForSequenceClassification(config).dropout.p == 0.0


# ---- labelled positions and losses ----


@pytest.mark.parametrize("model_class", [TurkBertForPreTraining, TurkBertForMaskedLM])
def test_labelled_positions_given_omitted_and_padded_agree(config, batch, randomized, model_class):
    model = randomized(model_class(config))
    if model_class is TurkBertForMaskedLM:
        del batch["next_sentence_label"]
    labels = batch["labels"]
    positions = positions_of(labels)
    unlabelled = positions_of(torch.where(labels == -100, 0, -100))
    orders = {
        "omitted": None,
        "given": positions,
        "padded": torch.cat([positions, unlabelled[:1].expand(7)]),
        "padded in front": torch.cat([unlabelled[3:6], positions]),
    }
    results = {}
    for name, given in orders.items():
        model.zero_grad()
        output = model(**batch, labelled_positions=given)
        output.loss.backward()
        results[name] = (output.loss, copy.deepcopy(gradients(model)))
        logits = output["prediction_logits" if model_class is TurkBertForPreTraining else "logits"]
        assert logits.shape == (len(positions) if given is None else len(given), config.vocab_size)
    for name in ("given", "padded", "padded in front"):
        assert_same(results[name], results["omitted"])


def test_labelled_positions_alone_choose_the_rows_of_the_head(config, batch, randomized):
    model = randomized(TurkBertForPreTraining(config))
    del batch["labels"], batch["next_sentence_label"]
    full = model(**batch).prediction_logits
    chosen = model(**batch, labelled_positions=torch.tensor([3, 14, 50]))
    assert chosen.loss is None
    assert_same(chosen.prediction_logits, full[[0, 1, 3], [3, 0, 8]])


# R14 row 37
@pytest.mark.parametrize("labelled_positions", [None, torch.tensor([0, 0, 5])], ids=["omitted", "padding only"])
def test_no_labelled_token_gives_a_zero_finite_loss(config, batch, labelled_positions):
    model = TurkBertForPreTraining(config)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    output = model(**batch, labelled_positions=labelled_positions)
    assert output.mlm_loss == 0
    assert_same(output.loss, output.nsp_loss)
    output.loss.backward()
    assert all(grad.isfinite().all() for grad in gradients(model).values() if grad is not None)


def test_loss_is_the_sum_of_what_is_labelled(config, batch):
    model = TurkBertForPreTraining(config)
    both = model(**batch)
    assert_same(both.loss, both.mlm_loss + both.nsp_loss)
    labels, next_sentence_label = batch.pop("labels"), batch.pop("next_sentence_label")
    words = model(**batch, labels=labels)
    assert words.nsp_loss is None
    assert_same(words.loss, both.mlm_loss)
    sentences = model(**batch, next_sentence_label=next_sentence_label)
    assert sentences.mlm_loss is None and sentences.prediction_logits.shape == (4, 14, config.vocab_size)
    assert_same(sentences.loss, both.nsp_loss)


def test_losses_are_float32_in_a_bfloat16_model(config, batch):
    model = TurkBertForPreTraining(config).to(torch.bfloat16)
    output = model(**batch)
    assert output.prediction_logits.dtype == torch.bfloat16
    assert output.mlm_loss.dtype == output.nsp_loss.dtype == torch.float32
    labels = batch["labels"][batch["labels"] != -100]
    assert_same(output.mlm_loss, F.cross_entropy(output.prediction_logits.float(), labels))


@pytest.mark.parametrize("where", ["argument", "config"])
def test_return_dict_false_gives_tuples(config, batch, where):
    config.return_dict = where != "config"
    model = TurkBertForPreTraining(config)
    output = model(**batch, return_dict=False) if where == "argument" else model(**batch)
    assert isinstance(output, tuple) and len(output) == 5
    assert_same(output[0], output[1] + output[2])


# ---- how it runs ----


@pytest.mark.parametrize("given", ["none", "ones", "padding"])
def test_sdpa_gets_a_mask_only_where_a_row_is_padded(config, batch, pad, monkeypatch, given):
    seen = []

    def spy(*args, attn_mask=None, is_causal=False, **kwargs):
        seen.append((attn_mask, is_causal))
        return sdpa(*args, attn_mask=attn_mask, is_causal=is_causal, **kwargs)

    sdpa = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    if given == "none":  # torch.compile would keep even the mask that is dropped here for being all ones
        monkeypatch.delattr(modeling_turkbert, "create_bidirectional_mask")
    mask = {"none": None, "ones": torch.ones(4, 14), "padding": pad(batch)["attention_mask"]}[given]
    model = TurkBertModel(config)
    assert model.config._attn_implementation == "sdpa"
    model(batch["input_ids"], attention_mask=mask)
    assert len(seen) == config.num_hidden_layers
    assert all((attn_mask is None) == (given != "padding") and is_causal is False for attn_mask, is_causal in seen)


def test_rows_do_not_see_what_is_padding(config, batch, pad, randomized):
    model = randomized(TurkBertModel(config)).eval()
    padded = pad(batch)
    mask, ids = padded["attention_mask"], padded["input_ids"]
    other = torch.where(mask.bool(), ids, 7)
    first, second = (model(x, attention_mask=mask).last_hidden_state[mask.bool()] for x in (ids, other))
    assert_same(first, second)


def test_too_long_a_row_is_refused(config):
    with pytest.raises(ValueError, match="21 tokens.*max_position_embeddings is 20"):
        TurkBertModel(config)(torch.ones(1, 21, dtype=torch.long))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(config, batch, randomized, use_reentrant):
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.1
    model = randomized(TurkBertForPreTraining(config)).train()
    calls = []
    model.bert.encoder.layer[0].intermediate.dense.register_forward_hook(lambda *_: calls.append(1))
    results = []
    for checkpointed in (False, True):
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
        model.zero_grad()
        calls.clear()
        torch.manual_seed(2)
        output = model(**batch)
        output.loss.backward()
        assert len(calls) == (2 if checkpointed else 1)
        results.append((output.loss, copy.deepcopy(gradients(model))))
    assert_same(*results)


def test_compiles_to_one_graph_that_serves_every_batch(config, batch, randomized):
    model = randomized(TurkBertForPreTraining(config))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    positions = positions_of(batch["labels"])
    fewer = {**batch, "labels": batch["labels"].clone()}
    fewer["labels"].view(-1)[positions[4:]] = -100
    with torch.compiler.set_stance("default"):
        compiled(**batch, labelled_positions=positions).loss.backward()
    model.zero_grad()
    with torch.compiler.set_stance("fail_on_recompile"):
        output = compiled(**fewer, labelled_positions=positions)
    output.loss.backward()
    actual = copy.deepcopy(gradients(model))
    model.zero_grad()
    expected = model(**fewer)
    expected.loss.backward()
    assert_same(output.loss, expected.loss)
    assert_same(actual, gradients(model))


# ---- config, weights, files ----


def test_config_refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="hidden_size 100 is not divisible by num_attention_heads 12"):
        TurkBertConfig(hidden_size=100)
    with pytest.raises(ValueError, match="position_embedding_type is 'relative_key'"):
        TurkBertConfig(position_embedding_type="relative_key")
    for name in ("is_decoder", "add_cross_attention"):
        with pytest.raises(ValueError, match=f"{name} is True"):
            TurkBertConfig(**{name: True})


def test_stock_config_becomes_ours_without_a_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(transformers.utils.logging.get_logger("transformers"), "propagate", True)
    transformers.BertConfig(hidden_size=48, classifier_dropout=0.4, num_labels=3).save_pretrained(tmp_path)
    config = TurkBertConfig.from_pretrained(tmp_path)
    assert type(config) is TurkBertConfig
    assert (config.model_type, config.hidden_size, config.classifier_dropout) == ("turkbert", 48, 0.4)
    assert config.num_labels == 3
    assert config.to_dict()["model_type"] == "turkbert"
    assert TurkBertConfig.from_dict(transformers.BertConfig().to_dict()).model_type == "turkbert"
    assert not caplog.records
    transformers.ViTConfig().save_pretrained(tmp_path)
    TurkBertConfig.from_pretrained(tmp_path)
    assert "of type `vit`" in caplog.text  # the watch above can see a warning


def test_initial_weights(config):
    config.hidden_size, config.initializer_range = 240, 0.05
    model = TurkBertForPreTraining(config)
    weight = model.bert.embeddings.word_embeddings.weight
    assert abs(weight[1:].std() - 0.05) < 2e-3
    assert weight[0].abs().sum() == 0  # padding
    assert abs(model.bert.encoder.layer[0].attention.self.query.weight.std() - 0.05) < 2e-3
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().sum() == 0, name
        elif "LayerNorm" in name:
            assert (parameter == 1).all(), name


def assert_tied(model: torch.nn.Module) -> None:
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias


@pytest.mark.parametrize("model_class", [TurkBertForPreTraining, TurkBertForMaskedLM])
def test_save_and_load_round_trip(config, batch, randomized, tmp_path, model_class):
    model = randomized(model_class(config)).eval()
    assert_tied(model)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as saved:
        assert "cls.predictions.decoder.weight" not in saved.keys()
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert_tied(loaded)
    assert loaded.config.model_type == "turkbert"
    assert_same(loaded.state_dict(), model.state_dict())
    assert_same(dict(loaded(batch["input_ids"])), dict(model(batch["input_ids"])))


@pytest.mark.parametrize("model_class", [TurkBertForPreTraining, TurkBertForMaskedLM])
def test_resize_token_embeddings(config, batch, randomized, tmp_path, model_class):
    model = randomized(model_class(config)).eval()
    before = model(batch["input_ids"])[0]
    model.resize_token_embeddings(70)
    assert_tied(model)
    assert model.config.vocab_size == 70 and model.cls.predictions.bias.shape == (70,)
    assert_same(model(batch["input_ids"])[0][..., :61], before)
    assert model(batch["input_ids"] + 9, labels=batch["labels"])[0].isfinite()
    model.save_pretrained(tmp_path)
    assert_same(model_class.from_pretrained(tmp_path).state_dict(), model.state_dict())


def test_replaced_embeddings_keep_the_bias_tied(config):
    model = TurkBertForMaskedLM(config)
    words, decoder = torch.nn.Embedding(70, 24), torch.nn.Linear(24, 70)
    model.set_input_embeddings(words)
    model.set_output_embeddings(decoder)
    assert model.get_input_embeddings() is words and model.get_output_embeddings() is decoder
    assert model.cls.predictions.bias is decoder.bias
    model.tie_weights()
    assert_tied(model)


def test_auto_classes_after_import_turkbert(config, tmp_path):
    heads = ("Model", "ForPreTraining", "ForMaskedLM", "ForNextSentencePrediction", "ForSequenceClassification")
    TurkBertForPreTraining(config).save_pretrained(tmp_path)
    script = f"""
        import transformers
        import turkbert

        path, heads = {str(tmp_path)!r}, {(*heads, "ForTokenClassification", "ForQuestionAnswering")!r}
        assert type(transformers.AutoConfig.from_pretrained(path)) is turkbert.TurkBertConfig
        for head in heads:
            auto = getattr(transformers, "AutoModel" + head.removeprefix("Model"))
            assert type(auto.from_pretrained(path)) is getattr(turkbert, "TurkBert" + head), head
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
