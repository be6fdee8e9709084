"""How wide a batch of rows is.

    DataCollatorWithPadding(tokenizer, pad_to_multiple_of=width_step(max_length=512))    # 8, 16, 24, ... tokens
"""

_STEP = 8


def width_step(max_length: int) -> int | None:
    """The multiple that batches are padded to; None where that would pass `max_length`.

    What a device prepares and keeps for each shape is then little: with every width from 1 to 128 a CPU process kept
    half a gigabyte more. Tensor cores ask for a multiple of 8, too.
    """
    return _STEP if max_length % _STEP == 0 else None
