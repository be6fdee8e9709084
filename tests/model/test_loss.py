"""labelled_cross_entropy against F.cross_entropy over all logits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from turkbert.model import TurkBertForPreTraining
from turkbert.model import loss as loss_module
from turkbert.model.loss import labelled_cross_entropy

CHUNK, WORDS, SIZE = 8, 50, 6
NAMES = ("value", "hidden", "weight", "bias")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setitem(loss_module._CHUNK, "cpu", CHUNK)


def rows_of(number: int) -> tuple[torch.Tensor, ...]:
    """hidden, weight, bias, labels of `number` rows, every third without a label."""
    hidden, weight, bias = torch.randn(number, SIZE), torch.randn(WORDS, SIZE), torch.randn(WORDS)
    labels = torch.where(torch.arange(number) % 3 == 1, -100, torch.randint(0, WORDS, (number,)))
    return hidden, weight, bias, labels


def plain(hidden, weight, bias, labels) -> torch.Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias).float(), labels, ignore_index=-100, reduction="sum")


def results(function, rows, scale: float = 1.0, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """The value of `function` and the gradients of `scale` times it."""
    *inputs, labels = rows
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        value = function(*inputs, labels)
    (value * scale).backward()
    return dict(zip(NAMES, [value.detach(), *(tensor.grad for tensor in inputs)], strict=True))


@pytest.mark.parametrize("number", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 1])
def test_value_and_gradients_are_those_of_plain_logits(number):
    rows = rows_of(number)
    torch.testing.assert_close(results(labelled_cross_entropy, rows), results(plain, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.25, -3.0])
def test_the_gradient_from_above_is_passed_on(scale):
    rows = rows_of(20)
    ours, expected = results(labelled_cross_entropy, rows, scale), results(plain, rows, scale)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_logits_too_large_for_exp_are_no_trouble():
    hidden, weight, bias, labels = rows_of(20)
    rows = (hidden * 1000, weight, bias, labels)
    ours = results(labelled_cross_entropy, rows)
    assert all(tensor.isfinite().all() for tensor in ours.values())
    torch.testing.assert_close(ours, results(plain, rows), rtol=1e-4, atol=1e-4)


def test_bfloat16_is_as_near_to_the_truth_as_plain_logits_are():
    rows = rows_of(40 * CHUNK)
    truth = results(plain, rows)
    ours, usual = (results(f, rows, dtype=torch.bfloat16) for f in (labelled_cross_entropy, plain))
    assert ours["value"].dtype == torch.float32
    for name in NAMES:
        error, usual_error = ((found[name] - truth[name]).norm() for found in (ours, usual))
        assert 0 < error <= 1.1 * usual_error, name


@pytest.mark.parametrize("number", [0, 1, CHUNK, CHUNK + 1])
def test_without_a_label_it_is_zero_and_so_are_its_gradients(number):
    *inputs, labels = rows_of(number)
    for tensor in results(labelled_cross_entropy, (*inputs, torch.full_like(labels, -100))).values():
        assert not tensor.any()


class LargestTensor(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *made])
        return result


def test_no_tensor_is_larger_than_a_chunk_of_logits_or_the_weight():
    rows = rows_of(64 * CHUNK)
    with LargestTensor() as usual:
        results(plain, rows)
    assert usual.elements == 64 * CHUNK * WORDS
    with LargestTensor() as ours:
        results(labelled_cross_entropy, rows)
    assert ours.elements == max(CHUNK * WORDS, WORDS * SIZE, 64 * CHUNK * SIZE)


@pytest.mark.parametrize("labelled", ["some", "none"])
def test_a_model_without_logits_has_the_same_losses_and_gradients(config, batch, randomized, labelled):
    model = randomized(TurkBertForPreTraining(config))
    if labelled == "none":
        batch["labels"] = torch.full_like(batch["labels"], -100)
    found = []
    for return_logits in (True, False):
        model.zero_grad()
        output = model(**batch, return_logits=return_logits)
        output.loss.backward()
        assert (output.prediction_logits is not None) == return_logits
        losses = (output.loss.detach(), output.mlm_loss.detach(), output.nsp_loss.detach())
        found.append((losses, copy.deepcopy([parameter.grad for parameter in model.parameters()])))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_scaled_fp16_keeps_the_gradients_of_improbable_words():
    """Words of a probability of 1e-8, which fp16 rounds to 0: plain logits keep them, for the scale comes before."""
    hidden, weight, _, labels = rows_of(20)
    likely = 2
    bias = torch.full((WORDS,), -18.0)
    bias[:likely] = 0.0
    rows = (hidden, weight * 0.1, bias, torch.where(labels < 0, labels, labels % likely))
    scale = 1024.0
    truth = results(plain, rows, scale)
    ours = results(labelled_cross_entropy, rows, scale, dtype=torch.float16)
    for name in ("weight", "bias"):
        rare, expected = ours[name][likely:], truth[name][likely:]
        assert 0 < expected.abs().max() < scale * 1e-6
        assert (rare - expected).norm() < 0.05 * expected.norm()
    for name in NAMES:
        assert (ours[name] - truth[name]).norm() < 0.01 * truth[name].norm()
