"""A corpus file, plain or one gz, xz or zst stream, becomes chunks of bytes, and these become text.

    path = Path("haber.txt.xz")
    "".join(decode_chunks(read_chunks(path), path, ledger.count_cleaned))

A file may be hostile or half downloaded: what is cut off, damaged, followed by more data, or unpacks to far more
than text ever does is refused by name, and no more than a few dozen MB are in memory at any time.
"""

import codecs
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import zstandard

from turkbert.errors import UserError

BadInput = Literal["error", "reject"]

COMPRESSIONS = (".gz", ".xz", ".zst")
CHUNK_BYTES = 1 << 20
# Text shrinks 3 to 10 times, repetitive logs perhaps 50 times. A bomb is what exceeds both limits.
MAX_RATIO = 200
RATIO_FREE_BYTES = 1 << 28
# No format here unpacks one KiB into more than about 32 MiB, so feeding it so little bounds memory without
# the three libraries' different ways to ask for a part of the output.
_FEED_BYTES = 1 << 10
_XZ_MEMORY_BYTES = 1 << 28  # xz -9 needs 65 MiB; zstandard's own limit is a window of 128 MiB
_FOREIGN = (  # (offset, bytes found there, what such a file is, how to mend it)
    (0, codecs.BOM_UTF16_LE, "UTF-16 text (byte order mark)", "convert it: iconv -f utf-16 -t utf-8"),
    (0, codecs.BOM_UTF16_BE, "UTF-16 text (byte order mark)", "convert it: iconv -f utf-16 -t utf-8"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"\x1f\x8b", "gzip data", "give it the ending .gz"),
    (0, b"\xfd7zXZ\0", "xz data", "give it the ending .xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data", "give it the ending .zst"),
)
_TURKISH_CP1254 = frozenset("çğıöşüÇĞİÖŞÜ".encode("cp1254"))


def ignore(num_bytes: int) -> None:
    """An `on_read` for those who do not care."""


def read_chunks(path: Path, on_read: Callable[[int], None] = ignore) -> Iterator[bytes]:
    """Yield the bytes of `path`, unpacked by its ending, in chunks of about CHUNK_BYTES.

    Args:
        on_read: called with the number of bytes of the file that were read since the last call.

    Raises:
        UserError: the compressed data is truncated, corrupt, more than one stream, or a decompression bomb.
    """
    if path.suffix.lower() in COMPRESSIONS:
        yield from _read_compressed(path, on_read)
        return
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            on_read(len(chunk))
            yield chunk


def _open_decompressor(suffix: str) -> Any:
    """An object with decompress(), eof and unused_data."""
    if suffix == ".gz":
        return zlib.decompressobj(wbits=31)
    if suffix == ".xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
    return zstandard.ZstdDecompressor().decompressobj()


def _read_compressed(path: Path, on_read: Callable[[int], None]) -> Iterator[bytes]:
    kind = path.suffix.lower().removeprefix(".")
    decompressor = _open_decompressor(path.suffix.lower())
    pending: list[bytes] = []
    num_pending = num_read = num_told = num_unpacked = 0
    with open(path, "rb") as file:
        while compressed := file.read(_FEED_BYTES):
            num_read += len(compressed)
            if not decompressor.eof:
                try:
                    pending.append(decompressor.decompress(compressed))
                except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
                    what = f"corrupt {kind} data near byte {num_read} ({error})"
                    raise UserError(path, what, "fetch or compress the file again") from error
                num_pending += len(pending[-1])
                compressed = decompressor.unused_data
            if compressed and decompressor.eof:
                # Reading only the first of several streams would lose text without a word.
                what = f"data after the end of the first {kind} stream"
                raise UserError(path, what, "unpack it and compress it again as one stream")
            if num_unpacked + num_pending > max(RATIO_FREE_BYTES, MAX_RATIO * num_read):
                what = f"unpacks to more than {MAX_RATIO} times its size: refused as a decompression bomb"
                raise UserError(path, what, "unpack it yourself if its content is wanted")
            if num_pending >= CHUNK_BYTES:
                num_unpacked += num_pending
                on_read(num_read - num_told)
                num_told = num_read
                yield b"".join(pending)
                pending, num_pending = [], 0
    if not decompressor.eof:
        what = f"truncated {kind} data: it ends after {num_read} bytes, {num_unpacked + num_pending} bytes unpacked"
        raise UserError(path, what, "fetch or compress the file again")
    on_read(num_read - num_told)
    if num_pending:
        yield b"".join(pending)


def decode_chunks(
    chunks: Iterable[bytes],
    path: Path,
    count_cleaned: Callable[[str, int], None],
    bad_bytes: BadInput = "error",
) -> Iterator[str]:
    r"""Decode UTF-8, strip the byte order mark, and make every line end in "\n".

    Args:
        chunks: the bytes of `path`, which is only named in errors.
        count_cleaned: called with what was changed (byte_order_marks, carriage_returns) and how often.
        bad_bytes: "reject" turns bytes that are not UTF-8 into lone surrogates, which no good UTF-8 holds, so that
            the documents with them can be told and rejected.

    Raises:
        UserError: bytes that are not UTF-8 (with their offset in the unpacked file), or another kind of file.
    """
    errors = "surrogateescape" if bad_bytes == "reject" else "strict"
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(errors), translate=True)
    position = 0
    for chunk in chain(chunks, [b""]):
        if position == 0:
            _refuse_foreign(chunk, path)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # error.object begins with what an earlier chunk left over.
            offset = position + len(chunk) - len(error.object) + error.start
            raise _not_utf8(path, offset, error.object[error.start]) from error
        if position == 0 and text.startswith("\ufeff"):
            text = text[1:]
            count_cleaned("byte_order_marks", 1)
        count_cleaned("carriage_returns", chunk.count(b"\r"))
        position += len(chunk)
        yield text


def _refuse_foreign(head: bytes, path: Path) -> None:
    for offset, magic, name, mend in _FOREIGN:
        if head.startswith(magic, offset):
            raise UserError(path, f"this is {name}, not UTF-8 text", mend)
    if head.count(0) > len(head) // 10:
        what = "full of NUL bytes: UTF-16 without a byte order mark, or a binary file"
        raise UserError(path, what, "convert it to UTF-8 or take it out of the corpus")


def _not_utf8(path: Path, offset: int, byte: int) -> UserError:
    what = f"not UTF-8: byte 0x{byte:02x} at offset {offset}"
    if byte in _TURKISH_CP1254:
        what += " looks like iso-8859-9/cp1254 (Turkish)"
        return UserError(path, what, f"convert it: iconv -f cp1254 -t utf-8 '{path.name}'")
    return UserError(path, what, "convert it to UTF-8, or reject such documents with --bad_bytes reject")
