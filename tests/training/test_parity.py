"""The fast path learns what the plain one learns: 50 steps of each from the same weights on the same rows, in fp32.

Fast: PretrainingTrainer: head on the labelled positions, loss without logits, SDPA without a mask, fused AdamW.
Plain: a loop around transformers' own BertForPreTraining: eager attention, all logits, masks, unfused AdamW.
"""

import pytest
import torch
import torch.nn.functional as F

from tests.training.tiny import tiny_arguments
from turkbert.data.prepare import PreparedData
from turkbert.model import to_stock
from turkbert.training.run import build_trainer
from turkbert.training.trainer import PretrainingTrainer

STEPS = 50
SETTINGS = {
    "max_steps": STEPS, "learning_rate": 2e-3, "warmup_steps": 10, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 2, "eval_strategy": "no", "save_strategy": "no",
}  # fmt: skip


@pytest.fixture
def trainer(tiny_dir, tmp_path, prepared: PreparedData) -> PretrainingTrainer:
    args = tiny_arguments(tiny_dir, tmp_path / "out", **SETTINGS)
    return build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)


def plain_losses(model, trainer: PretrainingTrainer, learning_rates: list[float]) -> torch.Tensor:
    """(STEPS, 2): MLM and NSP loss of each step of the plain loop."""
    model.train().set_attn_implementation("eager")
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": trainer.args.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, fused=False, foreach=False)
    losses = []
    for step in range(STEPS):
        batch = trainer.train_dataset[step]
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        output = model(batch["input_ids"], attention_mask=mask, token_type_ids=batch["token_type_ids"])
        mlm_loss = F.cross_entropy(output.prediction_logits.transpose(1, 2), batch["labels"])
        weight = trainer.nsp_class_weights[batch["input_ids"].shape[1]]
        terms = F.cross_entropy(output.seq_relationship_logits, batch["next_sentence_label"], weight, reduction="sum")
        nsp_loss = terms / len(mask)
        optimizer.zero_grad()
        (mlm_loss + nsp_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rates[step]
        optimizer.step()
        losses.append([mlm_loss.item(), nsp_loss.item()])
    return torch.tensor(losses)


def test_the_fast_path_equals_the_plain_path(trainer):
    assert trainer.model.config._attn_implementation == "sdpa" and trainer.args.optim == "adamw_torch_fused"
    stock = to_stock(trainer.model)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    fast = torch.tensor([[log["mlm_loss"], log["nsp_loss"]] for log in logs])
    plain = plain_losses(stock, trainer, [log["learning_rate"] for log in logs])
    assert fast.shape == (STEPS, 2) and fast[-5:].mean() < fast[:5].mean()  # it learns
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=0)
