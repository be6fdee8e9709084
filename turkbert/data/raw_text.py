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
# Bytes of text a byte of such a file, about: to show progress, and to see beforehand that the disk has room. Measured
# on 95 MB of Turkish prose and documentation at each program's own level; parquet's columns are snappy or zstd.
TEXT_BYTES = {".gz": 2.9, ".xz": 4.4, ".zst": 3.2, ".parquet": 2.0}
CHUNK_BYTES = 1 << 20
# Text shrinks 3 to 10 times, repetitive logs perhaps 50 times. A bomb is what exceeds both limits.
MAX_RATIO = 200
RATIO_FREE_BYTES = 1 << 28
# No format here unpacks one KiB into more than about 32 MiB, so feeding it so little bounds memory without
# the three libraries' different ways to ask for a part of the output.
_FEED_BYTES = 1 << 10
_XZ_MEMORY_BYTES = 1 << 28  # xz -9 needs 65 MiB; zstandard's own limit is a window of 128 MiB
_FOREIGN = (  # (offset, bytes found there, what such a file is, how to mend it)
    (0, codecs.BOM_UTF16_LE, "UTF-16 text (byte order mark)", "name it with --encoding utf-16"),
    (0, codecs.BOM_UTF16_BE, "UTF-16 text (byte order mark)", "name it with --encoding utf-16"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"\x1f\x8b", "gzip data", "give it the ending .gz"),
    (0, b"\xfd7zXZ\0", "xz data", "give it the ending .xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data", "give it the ending .zst"),
)
_TURKISH_CP1254 = frozenset("çğıöşüÇĞİÖŞÜ".encode("cp1254"))


def text_bytes(path: Path, num_bytes: int) -> int:
    """How many bytes of text are in `num_bytes` of a corpus file, by its ending."""
    return round(num_bytes * TEXT_BYTES.get(path.suffix.lower(), 1.0))


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
    encoding: str = "utf-8",
) -> Iterator[str]:
    r"""Decode, strip the byte order mark, and make every line end in "\n".

    Args:
        chunks: the bytes of `path`, which is only named in errors.
        count_cleaned: called with what was changed (byte_order_marks, carriage_returns) and how often.
        bad_bytes: "reject" turns bytes that `encoding` does not have into lone surrogates, which no good text holds,
            so that the documents with them can be told and rejected.

    Raises:
        UserError: bytes that are not `encoding` (with their offset in the unpacked file), or another kind of file.
    """
    encoding = codecs.lookup(encoding).name
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape" if bad_bytes == "reject" else "strict")
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    position, all_ascii = 0, True
    for chunk in chain(chunks, [b""]):
        if position == 0 and not encoding.startswith(("utf-16", "utf-32")):
            _refuse_foreign(chunk, path)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # error.object begins with what an earlier chunk left over.
            offset = position + len(chunk) - len(error.object) + error.start
            all_ascii = all_ascii and error.object[: error.start].isascii()
            raise _undecodable(path, encoding, offset, error.object[error.start], all_ascii) from error
        if position == 0 and text.startswith("\ufeff"):
            text = text[1:]
            count_cleaned("byte_order_marks", 1)
        count_cleaned("carriage_returns", text.count("\r"))
        all_ascii = all_ascii and text.isascii()
        position += len(chunk)
        yield newlines.decode(text, final=not chunk)


def _refuse_foreign(head: bytes, path: Path) -> None:
    for offset, magic, name, mend in _FOREIGN:
        if head.startswith(magic, offset):
            raise UserError(path, f"this is {name}, not UTF-8 text", mend)
    if head.count(0) > len(head) // 10:
        what = "full of NUL bytes: UTF-16 without a byte order mark, or a binary file"
        raise UserError(path, what, "name it with --encoding utf-16-le, or take it out of the corpus")


def _undecodable(path: Path, encoding: str, offset: int, byte: int, all_ascii: bool) -> UserError:
    """`all_ascii`: nothing before that byte tells UTF-8 from an encoding of one byte a character."""
    what = f"not {encoding.upper()}: byte 0x{byte:02x} at offset {offset}"
    if encoding == "utf-8" and all_ascii and byte in _TURKISH_CP1254:
        what += " looks like iso-8859-9/cp1254 (Turkish)"
        return UserError(path, what, "name it with --encoding cp1254, or convert the file to UTF-8")
    return UserError(path, what, "reject such documents with --bad_bytes reject, or name the true --encoding")
