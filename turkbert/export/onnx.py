"""A BERT as one ONNX file with free batch and length, checked against PyTorch before anybody gets it.

    write_onnx(model, Path("out-onnx"))     # model.onnx: input_ids, attention_mask, token_type_ids (B, T) int64 -> ...
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from turkbert.errors import ENVIRONMENT, UserError, config_error

logger = logging.getLogger(__name__)

ONNX_FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TOLERANCE = 1e-4  # absolute up to 1, relative beyond it
_EXAMPLE = (2, 8)  # rows and tokens to trace with; 1 would be taken for a constant


class _Outputs(nn.Module):
    """The heads' outputs and the last layer's, as a tuple in a fixed order."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return tuple(self.named(input_ids, attention_mask, token_type_ids).values())

    def named(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs as the class names them, (B, T, ...) or (B, ...), and `last_hidden_state` (B, T, H)."""
        outputs = dict(self.model(**dict(zip(INPUTS, inputs, strict=True)), output_hidden_states=True))
        hidden_states = outputs.pop("hidden_states")
        return {**outputs, "last_hidden_state": hidden_states[-1]}


def write_onnx(model: PreTrainedModel, folder: Path) -> float:
    """Write model.onnx into `folder`: outputs of the model's own heads and `last_hidden_state`.

    Returns:
        The largest difference to PyTorch that was seen.

    Raises:
        UserError: the packages of the extra are missing, or onnxruntime computes something else than PyTorch.
    """
    try:
        import onnx  # noqa: F401  the exporter needs it
        import onnxruntime
        import onnxscript  # noqa: F401  this as well
    except ImportError as error:
        raise missing_package("onnx", error) from None
    outputs = _Outputs(model.eval())
    example = _random_inputs(model, *_EXAMPLE)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it would warn of torchvision, which nobody needs here
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its own future
        names = list(outputs.named(*example))
        torch.onnx.export(
            outputs,
            example,
            str(folder / ONNX_FILE),
            input_names=list(INPUTS),
            output_names=names,
            dynamic_shapes=({0: "batch", 1: "length"},) * len(INPUTS),
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(folder / ONNX_FILE), providers=["CPUExecutionProvider"])
    difference = largest_difference(outputs, session)
    logger.info("%s: at most %.1e from PyTorch", ONNX_FILE, difference)
    if difference > TOLERANCE:
        what = f"onnxruntime {onnxruntime.__version__} is {difference:.1e} from PyTorch"
        raise UserError("onnx", what, 'install the versions of the extra: pip install "turkbert[export]"', ENVIRONMENT)
    return difference


def missing_package(where: str, error: ImportError) -> UserError:
    """What to say where a package of the extra is not installed."""
    return config_error(where, f"needs the package {error.name}", 'pip install "turkbert[export]"')


def largest_difference(outputs: _Outputs, session: Any) -> float:
    """Over shapes from one short row to full rows, with padding: |onnxruntime - PyTorch| / max(1, |PyTorch|)."""
    longest = outputs.model.config.max_position_embeddings
    worst = 0.0
    for rows, length in ((1, 3), (1, longest), (3, longest // 2 + 1), (5, 9)):
        inputs = _random_inputs(outputs.model, rows, length)
        with torch.no_grad():
            expected = outputs.named(*inputs)
        got = session.run(list(expected), {name: t.numpy() for name, t in zip(INPUTS, inputs, strict=True)})
        for tensor, array in zip(expected.values(), got, strict=True):
            reference = tensor.numpy()
            worst = max(worst, float(np.max(np.abs(array - reference) / np.maximum(1, np.abs(reference)))))
    return worst


def _random_inputs(model: PreTrainedModel, rows: int, length: int) -> tuple[torch.Tensor, ...]:
    """input_ids, attention_mask and token_type_ids (rows, length): two texts a row, the last row half padding."""
    generator = torch.Generator().manual_seed(length)
    input_ids = torch.randint(model.config.vocab_size, (rows, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[-1, (length + 1) // 2 :] = 0
    token_type_ids = (torch.arange(length) > length // 3).long().expand(rows, length).contiguous()
    return input_ids, attention_mask, token_type_ids * attention_mask
