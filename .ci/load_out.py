"""Loads a finished model as somebody without turkbert would: plain transformers, no remote code.

    python .ci/load_out.py reference out logits.pt        # with turkbert: what its own class says
    python -I .ci/load_out.py stranger out logits.pt      # without it: every Auto class, the same logits
"""

import importlib.util
import sys

import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer, pipeline

TEXT = "Türkiye'nin başkenti [MASK]."


def write_reference(folder: str, path: str) -> None:
    from turkbert import TurkBertForPreTraining

    torch.save(logits_of(TurkBertForPreTraining.from_pretrained(folder), folder), path)


def load_as_stranger(folder: str, path: str) -> None:
    assert importlib.util.find_spec("turkbert") is None, "turkbert is importable: this shows nothing"
    for auto_class in (AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining):
        model, info = auto_class.from_pretrained(folder, output_loading_info=True, trust_remote_code=False)
        unexpected = list(info["unexpected_keys"])
        if auto_class is not AutoModelForPreTraining:  # the other heads' weights have no place in these
            unexpected = [name for name in unexpected if not name.startswith("cls.")]
        if auto_class is AutoModelForMaskedLM:  # nor has the pooler, which only sentences need
            unexpected = [name for name in unexpected if not name.startswith("bert.pooler.")]
        problems = [*info["missing_keys"], *info["mismatched_keys"], *info["error_msgs"], *unexpected]
        assert not problems, f"{auto_class.__name__}: {problems}"
        sys.stdout.write(f"{auto_class.__name__}: {type(model).__name__}, no key missing or new\n")
    expected, found = torch.load(path), logits_of(model, folder)
    difference = max((expected[name] - found[name]).abs().max().item() for name in expected)
    assert difference <= 1e-5, f"the logits differ by {difference}"
    sys.stdout.write(f"logits as from turkbert's own class (largest difference {difference:.1e})\n")
    answers = pipeline("fill-mask", model=folder, tokenizer=folder)(TEXT)
    sys.stdout.write(TEXT + "  " + "  ".join(f"{a['token_str']} {a['score']:.3f}" for a in answers) + "\n")


@torch.no_grad()
def logits_of(model: torch.nn.Module, folder: str) -> dict[str, torch.Tensor]:
    inputs = AutoTokenizer.from_pretrained(folder)(TEXT, "Ankara'dır.", return_tensors="pt")
    assert inputs["token_type_ids"].max() == 1, "the tokenizer gives no token types"
    outputs = model.eval()(**inputs)
    return {name: outputs[name] for name in ("prediction_logits", "seq_relationship_logits")}


if __name__ == "__main__":
    {"reference": write_reference, "stranger": load_as_stranger}[sys.argv[1]](*sys.argv[2:])
