"""A folder that is whole or not there: staged beside its final name, hashed, synced, renamed.

    with staged(Path("data/tokens"), key={"tokenizer": "3f2a..."}) as folder:
        (folder / "tokens.arrow").write_bytes(...)

A folder without a valid MANIFEST.json is never loaded. The manifest holds the size and sha256 of every file, and the
key: the settings and content hashes that the folder stands for.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from turkbert.errors import CORRUPT_ARTIFACT, ENVIRONMENT, UserError, config_error
from turkbert.interrupts import interruptible

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
RECIPE = "recipe.json"  # the resolved settings, in every stage's folder
CARD = "README.md"  # for people, who may edit it: what it says is no damage
FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_MANIFEST_BYTES = 1 << 24  # some hundred bytes a file, and no folder has so many
_POLL_SECONDS = 0.5
_THREADS = 8  # hashing lets go of the interpreter, and fsync waits for the disk
_HASH = re.compile(r"[0-9a-f]{16}|[0-9a-f]{64}")

_kept_aside: list[Path] | None = None  # the folders that reuse_or_build gave within an `all_or_none`


class Sealer:
    """Hashes files and syncs them to disk, in threads, so that it goes on while the next file is being written."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS)
        self._sealed: dict[Path, tuple[Future[str], Future[None]]] = {}

    def seal(self, path: Path) -> None:
        """Begin with a file that is written for good."""
        if path not in self._sealed:
            self._sealed[path] = (self._pool.submit(file_hash, path), self._pool.submit(_sync, path))

    def describe(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Size and sha256 of every file below `folder`, all of them on disk."""
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
        mode = folder.stat().st_mode & 0o666  # safetensors writes files that nobody else may read
        for path in paths:
            if path.stat().st_mode & 0o666 != mode:  # some file systems have one mode for all and refuse to change it
                path.chmod(mode)
            self.seal(path)
        files = {}
        for path in paths:
            sha256, synced = self._sealed[path]
            synced.result()
            files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": sha256.result()}
        self._pool.shutdown()
        return files


@contextmanager
def staged(
    final: Path,
    key: dict[str, Any],
    run: dict[str, Any] | None = None,
    need_bytes: int = 0,
    sealer: Sealer | None = None,
) -> Iterator[Path]:
    """An empty folder to fill; on a clean exit it takes the place of `final`, on an error it is removed.

    An old `final` is moved aside just before and removed just after.

    Args:
        run: where the folder comes from, for its manifest; no part of what it stands for.
        need_bytes: what will be written at least; a disk with less room is refused before.
        sealer: to which some of the files are given before all of them are there.

    Raises:
        UserError: the disk is full.
    """
    staging = final.with_name(f"_staging-{final.name}")
    remove(staging)
    check_room(final, need_bytes)
    with room_or_nothing(staging, final, need_bytes):
        staging.mkdir(parents=True)
        yield staging
        write_manifest(staging, key, run, sealer)
        replace_folder(staging, final)


@contextmanager
def room_or_nothing(staging: Path, final: Path | None = None, need_bytes: int = 0) -> Iterator[None]:
    """Take `staging` away whatever happens, and say in one line if it was the disk that had no room for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        shutil.rmtree(staging, ignore_errors=True)
        raise _no_room(final or staging.parent, need_bytes) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_manifest(
    folder: Path, key: dict[str, Any], run: dict[str, Any] | None = None, sealer: Sealer | None = None
) -> None:
    """Hash every file below `folder` and sync them, then the manifest, then the folders, to disk."""
    files = (sealer or Sealer()).describe(folder)
    content = {"key": key, **({"run": run} if run else {}), "files": files}
    content["sha256"] = _content_hash(content)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    _sync(manifest)
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        _sync(path)


def replace_folder(staging: Path, final: Path) -> None:
    """Rename `staging` to `final`, an old `final` out of the way, and sync the parent."""
    dead = final.with_name(f"_dead-{final.name}")
    remove(dead)
    if final.exists():
        keep = _kept_aside is not None and not _old(final).exists()
        os.rename(final, _old(final) if keep else dead)
    os.rename(staging, final)
    _sync(final.parent)
    remove(dead)


@contextmanager
def all_or_none() -> Iterator[None]:
    """What reuse_or_build replaces within the block is put back if an error ends it, and removed at its end else.

    A killed or interrupted block leaves the old folders aside. The same settings again go on from there; those of the
    old folders get them back.
    """
    global _kept_aside
    _kept_aside = []
    try:
        yield
    except Exception:
        for final in reversed(_kept_aside):
            _put_back(final)
        raise
    else:
        for final in _kept_aside:
            remove(_old(final))
    finally:
        _kept_aside = None


def _old(final: Path) -> Path:
    return final.with_name(f"_old-{final.name}")


def _put_back(final: Path) -> None:
    if _old(final).exists():
        remove(final)
        os.rename(_old(final), final)


def publish(staging: Path, final: Path, key: dict[str, Any], run: dict[str, Any] | None = None) -> None:
    """Move the files of `staging` into the existing folder `final` one by one, their manifest last.

    For a folder that holds other things beside the artefact, as an output folder holds its checkpoints.
    """
    write_manifest(staging, key, run)
    (final / MANIFEST).unlink(missing_ok=True)  # until the new manifest is there, the folder counts as unfinished
    for path in sorted(p for p in staging.rglob("*") if p.is_file() and p.name != MANIFEST):
        target = final / path.relative_to(staging)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
    os.replace(staging / MANIFEST, final / MANIFEST)
    _sync(final)


def remove(folder: Path) -> None:
    """Remove a folder in a way that never leaves half of it under its own name."""
    if folder.exists():
        shutil.rmtree(put_aside(folder))


def put_aside(folder: Path) -> Path:
    """Take away a folder's own name, so that it may go in any time; the name that it has instead."""
    if folder.name.startswith(("_dead-", "_staging")):
        return folder
    dead = folder.with_name(f"_dead-{folder.name.removeprefix('_')}")
    shutil.rmtree(dead, ignore_errors=True)
    os.rename(folder, dead)
    return dead


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a committed folder, None where there is none, it is damaged or names files elsewhere."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            return None
        text = path.read_text("utf-8")
        manifest = json.loads(text)
        own_hash = manifest.pop("sha256", None)  # older ones have none
        entries = [_is_entry(name, facts) for name, facts in manifest["files"].items()]
        is_whole = text.endswith("\n") and own_hash in (None, _content_hash(manifest))
        is_sound = isinstance(manifest["key"], dict) and isinstance(manifest.get("run", {}), dict)
        return manifest if is_whole and is_sound and all(entries) else None
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return None


def _is_entry(name: str, facts: dict[str, Any]) -> bool:
    """Whether this is a file below the folder with a size and a hash."""
    parts = PurePosixPath(name).parts
    inside = bool(parts) and not name.startswith("/") and ".." not in parts and "\0" not in name
    return inside and isinstance(facts["size"], int) and isinstance(facts["sha256"], str)


def find_damage(folder: Path) -> str | None:
    """What is wrong with a committed folder, in a few words; None where every file but its card is as written."""
    manifest = read_manifest(folder)
    if manifest is None:
        return f"no valid {MANIFEST}"
    root = folder.resolve()
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if not path.resolve().is_relative_to(root):
            return f"{name} is a link to a file elsewhere"
        if name != CARD and path.stat().st_size != facts["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {facts['size']}"
    hashed = {name: facts for name, facts in manifest["files"].items() if name != CARD}
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = pool.map(file_hash, (folder / name for name in hashed))
        for (name, facts), sha256 in zip(hashed.items(), hashes, strict=True):
            if sha256 != facts["sha256"]:
                return f"{name} is not what was written (sha256 differs)"
    return None


def num_bytes(folder: Path) -> int:
    """The size of a committed folder's files, 0 where it is none."""
    manifest = read_manifest(folder) or {"files": {}}
    return sum(facts["size"] for facts in manifest["files"].values())


def reuse_or_build(
    final: Path, key: dict[str, Any], build: Callable[[Path], None], overwrite: bool = False, need_bytes: int = 0
) -> Path:
    """The committed folder that stands for `key`: found, or made by `build(staging folder)`.

    The worker processes of a build end with it, and Ctrl-C ends both.

    Args:
        need_bytes: what the build writes at least; a disk with less room is refused before it starts.

    Raises:
        UserError: the folder stands for something else (names the first difference), holds foreign files, or is
            damaged; the disk is too small.
    """
    if _kept_aside is not None:
        _kept_aside.append(final)
    if _stands_for(final, key) and find_damage(final) is None:  # without a lock: the folder may be read-only
        logger.info("%s: reused", final)
        return final
    with _locked(final):
        _undo_half_replaced(final, key)
        if not _can_reuse(final, key, overwrite):
            with staged(final, key, need_bytes=need_bytes) as folder, interruptible():
                build(folder)
    return final


def wait_for(final: Path, key: dict[str, Any]) -> None:
    """Wait until what another process has committed shows here too, as it may take a network's file system to do."""
    while (read_manifest(final) or {}).get("key") != key:
        time.sleep(_POLL_SECONDS)


def check_room(final: Path, need_bytes: int) -> None:
    """Refuse to write `need_bytes` where they do not fit.

    Raises:
        UserError: what is needed and what there is.
    """
    if _free_bytes(final) < need_bytes:
        raise _no_room(final, need_bytes)


def _free_bytes(final: Path) -> int:
    return shutil.disk_usage(next(path for path in (final, *final.parents) if path.exists())).free


def _no_room(final: Path, need_bytes: int) -> UserError:
    free = _free_bytes(final)
    need = _gigabytes(need_bytes) if need_bytes > free else f"more than {_gigabytes(free)}"
    what = f"the disk is too full: need {need}, have {_gigabytes(free)}"
    return UserError(final, what, "make room or choose another folder, then run again", ENVIRONMENT)


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.3g} GB"


def _can_reuse(final: Path, key: dict[str, Any], overwrite: bool) -> bool:
    """True if `final` is there, whole and stands for `key`; False if it is to be built; else UserError."""
    refuse_foreign(final)
    manifest = read_manifest(final)
    if manifest is None and (final / RECIPE).exists() and not overwrite:
        raise UserError(final, f"no valid {MANIFEST}", "remove the folder and run again", CORRUPT_ARTIFACT)
    if manifest is not None and manifest["key"] != key and not overwrite:
        what = _difference(manifest["key"], key)
        raise config_error(final, what, "choose another folder, or --overwrite true")
    if manifest is not None and manifest["key"] == key:
        damage = find_damage(final)
        if damage is None:
            logger.info("%s: reused", final)
            return True
        if not overwrite:
            raise UserError(final, damage, "remove the folder and run again", CORRUPT_ARTIFACT)
    return False


def refuse_foreign(folder: Path) -> None:
    """Raise UserError if `folder` holds files and is none of turkbert's, whole or damaged."""
    is_ours = read_manifest(folder) is not None or (folder / RECIPE).exists()
    if not is_ours and folder.exists() and any(folder.iterdir()):
        raise config_error(folder, "a folder that turkbert did not write is in the way", "choose another one")


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first setting in which two keys differ, in words."""
    name = next(n for n in {**new, **old} if new.get(n) != old.get(n))
    if any(isinstance(key.get(name), str) and _HASH.fullmatch(key[name]) for key in (old, new)):
        return f"the {name.replace('_', ' ')} changed since this was made"  # of a hash people learn nothing
    return f"made with {name} {_brief(old.get(name))}, now {_brief(new.get(name))}"


def _stands_for(folder: Path, key: dict[str, Any]) -> bool:
    return (read_manifest(folder) or {}).get("key") == key


def _undo_half_replaced(final: Path, key: dict[str, Any]) -> None:
    """A killed run left the old folder aside: between the two renames of replace_folder, or within `all_or_none`."""
    dead = final.with_name(f"_dead-{final.name}")
    if not final.exists():
        _put_back(final)
    if dead.exists() and not final.exists():
        os.rename(dead, final)
    if _stands_for(_old(final), key) and not _stands_for(final, key):
        _put_back(final)


@contextmanager
def _locked(final: Path) -> Iterator[None]:
    """Keep other runs off a folder that is being built, and wait for one that builds it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(final.with_name(f".{final.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: waiting for another run that is building it", final)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def key_hash(key: dict[str, Any]) -> str:
    """A short name for everything a folder stands for, to be part of the next stage's key."""
    return _content_hash(key)[:16]


def _content_hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write one small file whole: beside, then renamed over the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"_{path.name}")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    _sync(beside)
    os.replace(beside, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
