"""A model spread over the processes by FSDP2, and the same model whole again.

    shard(model, accelerator.state.fsdp_plugin, torch.bfloat16)     # in place, before the optimizer is made
    model = whole(model)                                            # all processes together; each gets a copy
"""

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from turkbert.model import TurkBertForPreTraining


def shard(
    model: TurkBertForPreTraining, plugin: FullyShardedDataParallelPlugin, dtype: torch.dtype | None = None
) -> None:
    """Each layer by itself and all else together, since tied weights must share a group.

    accelerate takes a model that is sharded already as it is. Its own grouping tears the two tied biases of the head
    apart, which torch refuses, and would give the loss in the precision of the layers.

    Args:
        dtype: of the layers; parameters, reduced gradients and losses stay float32.
    """
    options = {
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        "offload_policy": plugin.cpu_offload,
    }
    for layer in model.bert.encoder.layer:
        fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **options)
    fully_shard(model, **options)
    plugin.auto_wrap_policy = None  # accelerate would look for classes whose names have just changed


def whole(model: TurkBertForPreTraining) -> TurkBertForPreTraining:
    """A sharded model's weights in a model of its own; any other model itself."""
    if not isinstance(model, FSDPModule):
        return model
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    copy = TurkBertForPreTraining(model.config)
    copy.load_state_dict(weights)
    return copy.to(model.device)
