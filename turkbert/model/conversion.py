"""Stock BERT <-> TurkBERT: the same parameters under the same names, another config and other classes.

    model, report = load_stock("dbmdz/bert-base-turkish-cased")     # BERTurk, to train further
    save_stock(model, "out")                                        # plain transformers loads ./out
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import BertConfig, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from .configuration_turkbert import TurkBertConfig
from .modeling_turkbert import (
    TurkBertForMaskedLM,
    TurkBertForNextSentencePrediction,
    TurkBertForPreTraining,
    TurkBertForQuestionAnswering,
    TurkBertForSequenceClassification,
    TurkBertForTokenClassification,
    TurkBertModel,
    TurkBertPreTrainedModel,
)

_STOCK_CLASSES: dict[type[TurkBertPreTrainedModel], type[PreTrainedModel]] = {
    TurkBertModel: transformers.BertModel,
    TurkBertForPreTraining: transformers.BertForPreTraining,
    TurkBertForMaskedLM: transformers.BertForMaskedLM,
    TurkBertForNextSentencePrediction: transformers.BertForNextSentencePrediction,
    TurkBertForSequenceClassification: transformers.BertForSequenceClassification,
    TurkBertForTokenClassification: transformers.BertForTokenClassification,
    TurkBertForQuestionAnswering: transformers.BertForQuestionAnswering,
}


def to_stock(model: TurkBertPreTrainedModel) -> PreTrainedModel:
    """Copy a TurkBERT model into transformers' BERT class of the same kind, in evaluation mode.

    The random number generators are left as they are, so a run may export on its way and still resume exactly.
    Raises TypeError for a class that has no stock counterpart.
    """
    stock_class = _STOCK_CLASSES.get(type(model))
    if stock_class is None:
        raise TypeError(f"{type(model).__name__} has no stock counterpart")
    kept: dict[str, Any] = {
        field.name: getattr(model.config, field.name, field.default) for field in fields(BertConfig)
    }
    kept |= {"architectures": [stock_class.__name__], "attn_implementation": model.config._attn_implementation}
    config = BertConfig(**kept)
    pooling = {"add_pooling_layer": model.pooler is not None} if isinstance(model, TurkBertModel) else {}
    with no_init_weights():
        stock: Any = stock_class(config, **pooling)
    stock.tie_weights()  # skipped along with the initialisation
    stock.to(device=model.device, dtype=model.dtype)
    stock.load_state_dict(model.state_dict())
    return stock.eval()


def save_stock(model: TurkBertPreTrainedModel, output_dir: str | os.PathLike[str]) -> None:
    """Write config.json (`model_type: "bert"`) and model.safetensors, which load without turkbert."""
    to_stock(model).save_pretrained(output_dir)


@dataclass(frozen=True)
class LoadReport:
    """What load_stock took from a checkpoint.

    loaded: number of parameters (scalars) whose value came from it.
    newly_initialized: parameter names that it lacks.
    ignored: names of its tensors that the model has no use for.
    mismatched: parameter names whose shape differs; they are newly initialised as well.
    """

    loaded: int
    newly_initialized: tuple[str, ...]
    ignored: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.loaded:,} parameters loaded"]
        for title, names in (
            ("newly initialised", self.newly_initialized),
            ("ignored", self.ignored),
            ("of another shape, newly initialised", self.mismatched),
        ):
            if names:
                lines.append(f"{title}: {', '.join(names)}")
        return "\n".join(lines)


def load_stock(
    model_name_or_path: str | os.PathLike[str],
    model_class: type[TurkBertPreTrainedModel] = TurkBertForPreTraining,
    revision: str | None = None,
    **kwargs: Any,
) -> tuple[TurkBertPreTrainedModel, LoadReport]:
    """Load a stock BERT or a TurkBERT checkpoint, from a folder or from the Hub, as a TurkBERT model.

    Weights come as float32 unless `dtype` says otherwise: training in half precision still needs float32 masters.
    Other keywords go to `from_pretrained`; remote code is never run. Raises ValueError for a path that does not
    exist (it is not asked for on the Hub) and for what is not a plain BERT encoder: another architecture, remote
    code, relative positions, a decoder.
    """
    if kwargs.pop("trust_remote_code", False):
        raise ValueError("trust_remote_code is set, and turkbert runs no code from a model repository")
    source = _resolve_source(model_name_or_path)
    load_stock_config(source, revision, **kwargs)
    kwargs.setdefault("dtype", torch.float32)
    loaded: Any = model_class.from_pretrained(
        source, revision=revision or "main", output_loading_info=True, trust_remote_code=False, **kwargs
    )
    model, info = loaded  # a pair because of output_loading_info
    missing = set(info["missing_keys"])
    mismatched = {name for name, *_ in info["mismatched_keys"]}
    report = LoadReport(
        loaded=sum(p.numel() for name, p in model.named_parameters() if name not in missing | mismatched),
        newly_initialized=tuple(sorted(missing)),
        ignored=tuple(sorted(info["unexpected_keys"])),
        mismatched=tuple(sorted(mismatched)),
    )
    return model, report


def load_stock_config(
    model_name_or_path: str | os.PathLike[str], revision: str | None = None, **kwargs: Any
) -> TurkBertConfig:
    """The config alone of what load_stock would load; raises ValueError where that would."""
    source = _resolve_source(model_name_or_path)
    config_dict, _ = PreTrainedConfig.get_config_dict(source, revision=revision, **kwargs)
    return _check_architecture(config_dict, source)


def _resolve_source(model_name_or_path: str | os.PathLike[str]) -> str:
    """The folder, or the Hub id; ValueError if what looks like a folder is none."""
    name = os.fspath(model_name_or_path)
    path = Path(name).expanduser()
    if name and path.is_dir():  # Path("") is the working folder
        return str(path)
    looks_like_path = (
        not isinstance(model_name_or_path, str)
        or not name
        or name.startswith((".", "/", "~"))
        or name.endswith("/")
        or "\\" in name
        or name.count("/") > 1
        or path.exists()
        or ("/" in name and path.parent.exists())
    )
    if looks_like_path:
        raise ValueError(f"{name!r} looks like a path, and there is no such folder (a Hub id is owner/name)")
    return name


def _check_architecture(config_dict: dict[str, Any], source: str) -> TurkBertConfig:
    model_type = config_dict.get("model_type")
    if model_type not in ("bert", "turkbert"):
        raise ValueError(f"{source}: model_type in config.json is {model_type!r}, neither 'bert' nor 'turkbert'")
    if "auto_map" in config_dict:
        raise ValueError(f"{source}: config.json has an auto_map, and turkbert runs no code from a model repository")
    try:
        return TurkBertConfig.from_dict(config_dict)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
