"""Every attention implementation gives what the one spelled out gives."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from turkbert.arguments import parse_args
from turkbert.errors import BAD_CONFIG, UserError
from turkbert.model import TurkBertConfig, TurkBertForPreTraining
from turkbert.training.run import check_run

INSTALLED = {"flash_attention_2": is_flash_attn_2_available, "flash_attention_3": is_flash_attn_3_available}


def outputs_of(name: str, batch, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Hidden states of the real tokens, and the loss, of one model with one set of weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2}
    config = TurkBertConfig(vocab_size=61, max_position_embeddings=20, attn_implementation=name, **sizes)
    model = TurkBertForPreTraining(config).eval().to(device, dtype)
    with torch.no_grad():
        output = model(**{name: tensor.to(device) for name, tensor in batch.items()}, output_hidden_states=True)
    real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    return output.hidden_states[-1].cpu()[real].float(), output.mlm_loss.cpu(), output.nsp_loss.cpu()


def assert_equals_eager(name: str, batch, device="cpu", dtype=torch.float32, tolerance=1e-5) -> None:
    expected = outputs_of("eager", batch, device, dtype)
    torch.testing.assert_close(outputs_of(name, batch, device, dtype), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("name", ["sdpa", pytest.param("flex_attention", marks=pytest.mark.slow)])
def test_equals_eager(batch, pad, name, padded):
    assert_equals_eager(name, pad(batch) if padded else batch)


@pytest.mark.parametrize("name", INSTALLED)
def test_one_that_is_not_installed_is_refused_in_one_line(name):
    if INSTALLED[name]():
        pytest.skip(f"{name} is installed")
    with pytest.raises(UserError, match=f"attn_implementation: {name} cannot be used.*choose sdpa") as error:
        check_run(parse_args(["--attn_implementation", name]))
    assert error.value.exit_code == BAD_CONFIG and "\n" not in str(error.value)
    check_run(parse_args(["--attn_implementation", "sdpa"]))


@pytest.mark.gpu
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("name", ["sdpa", *INSTALLED])
def test_equals_eager_on_a_gpu(batch, pad, name, padded):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    if name in INSTALLED and not INSTALLED[name]():
        pytest.skip(f"{name} is not installed")
    assert_equals_eager(name, pad(batch) if padded else batch, "cuda", torch.bfloat16, tolerance=3e-2)


@pytest.mark.gpu
def test_full_rows_run_on_the_flash_kernel_and_padded_ones_need_another(batch, pad):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        assert_equals_eager("sdpa", batch, "cuda", torch.bfloat16, tolerance=3e-2)
        with pytest.raises(RuntimeError, match="[Nn]o available kernel"):
            outputs_of("sdpa", pad(batch), "cuda", torch.bfloat16)
