"""Hostile files: nothing in them runs, nothing is written outside, and each is refused in one line (S1, S4, S5)."""

import ast
import configparser
import gzip
import io
import json
import lzma
import os
import pickle
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import zstandard
from transformers import BertConfig, BertForMaskedLM

from tests.training.tiny import tiny_arguments
from turkbert.arguments import parse_args
from turkbert.artifacts import MANIFEST, find_damage, read_manifest, write_manifest
from turkbert.data import raw_text
from turkbert.data.prepare import prepare_dataset
from turkbert.errors import UserError
from turkbert.tokenization import load_tokenizer
from turkbert.training.checkpoint import find_checkpoint
from turkbert.training.run import check_run, pretrain

ROOT = Path(__file__).parents[2]
PLAN = {"max_steps": 4, "save_steps": 2, "stage_fractions": [0.5, 0.5], "eval_strategy": "no"}


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def as_pickle(evil: Evil) -> bytes:
    return pickle.dumps({"state": evil})


def as_torch_save(evil: Evil) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state": evil}, buffer)
    return buffer.getvalue()


def as_old_torch_save(evil: Evil) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state": evil}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def train(tiny_dir, prepared, output_dir: Path, **changes) -> None:
    args = tiny_arguments(tiny_dir, output_dir, **{**PLAN, **changes})
    check_run(args)
    pretrain(args, args.training(), prepared.tokenizer, prepared.rows)


@pytest.fixture(scope="module")
def whole_dir(tiny_dir, prepared, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("whole") / "out"
    train(tiny_dir, prepared, output_dir)
    return output_dir


@pytest.fixture
def output_dir(whole_dir, tmp_path) -> Path:
    shutil.copytree(whole_dir / "checkpoint-2", tmp_path / "out" / "checkpoint-2")
    shutil.copy(whole_dir / "RUN.json", tmp_path / "out")
    return tmp_path / "out"


def vouch_for(folder: Path) -> None:
    """Forge the manifest: whoever can plant a file can do that too."""
    manifest = read_manifest(folder)
    write_manifest(folder, manifest["key"], manifest["run"])


# ---- S1: pickles


@pytest.mark.parametrize("disguise", [as_pickle, as_torch_save, as_old_torch_save])
@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "pytorch_model.bin", "training_args.bin"]
)
def test_no_pickle_in_a_checkpoint_runs(tiny_dir, prepared, output_dir, tmp_path, name, disguise):
    """With a forged manifest, so that only the way of loading protects."""
    folder, mark = output_dir / "checkpoint-2", tmp_path / "ran"
    is_read = (folder / name).exists() or name == "pytorch_model.bin"
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(disguise(Evil(mark)))
    vouch_for(folder)
    assert find_checkpoint(output_dir) == folder
    if is_read:
        with pytest.raises(UserError, match="checkpoint-2: cannot be loaded") as error:
            train(tiny_dir, prepared, output_dir)
        assert error.value.exit_code == 5 and "\n" not in str(error.value)
    else:  # nobody asks for it
        train(tiny_dir, prepared, output_dir)
    assert not mark.exists()
    with suppress(RuntimeError):  # no file of torch's, but it is unpickled first
        torch.load(io.BytesIO(disguise(Evil(mark))), weights_only=False)
    assert mark.exists()  # it would have run


def test_no_metadata_of_a_sharded_checkpoint_is_unpickled(tiny_dir, prepared, output_dir, tmp_path):
    folder, mark = output_dir / "checkpoint-2", tmp_path / "ran"
    (folder / "pytorch_model_fsdp_0").mkdir()
    (folder / "pytorch_model_fsdp_0" / ".metadata").write_bytes(as_pickle(Evil(mark)))
    with pytest.raises(UserError, match=r"pytorch_model_fsdp_0/.metadata was added to it"):
        train(tiny_dir, prepared, output_dir, resume_from_checkpoint=str(folder))
    vouch_for(folder)
    with pytest.raises(UserError, match="cannot be loaded"):
        train(tiny_dir, prepared, output_dir)
    (folder / MANIFEST).unlink()
    with pytest.raises(UserError, match=f"no valid {MANIFEST}"):
        train(tiny_dir, prepared, output_dir, resume_from_checkpoint=str(folder))
    assert not mark.exists()


def test_the_sources_load_nothing_that_could_run_code():
    """No pickle, no torch.load that is not weights_only, no trust_remote_code but False."""
    for path in (ROOT / "turkbert").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                options = {option.arg: ast.unparse(option.value) for option in node.keywords}
                assert name not in ("pickle.load", "pickle.loads", "eval", "exec"), (path, node.lineno)
                assert name != "torch.load" or options.get("weights_only") == "True", (path, node.lineno)
                assert options.get("trust_remote_code", "False") == "False", (path, node.lineno)


# ---- S4: hostile paths and files


def manifest_that_names(name: str) -> Callable[[Path], Callable[[], object]]:
    def hostile(folder: Path) -> Callable[[], object]:
        target = folder / "data"
        target.mkdir()
        (folder / "secret").write_text("x")
        sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        name_here = name.replace("FOLDER", str(folder))
        if name == "link":
            (target / "link").symlink_to(folder / "secret")
        files = {name_here: {"size": 1, "sha256": sha256}}
        (target / MANIFEST).write_text(json.dumps({"key": {}, "files": files}) + "\n")

        def load() -> None:
            raise UserError(target, find_damage(target) or pytest.fail("taken for whole"), "")

        return load

    return hostile


def bomb(suffix: str, compress: Callable[[bytes], bytes]) -> Callable[[Path], Callable[[], object]]:
    def hostile(folder: Path) -> Callable[[], object]:
        (folder / f"a.txt.{suffix}").write_bytes(compress(bytes(1 << 23)))
        return lambda: prepare(folder, folder / f"a.txt.{suffix}")

    return hostile


def prepare(folder: Path, corpus: Path) -> None:
    places = {"data_dir": folder / "data", "tokenizer_dir": folder / "tokenizer"}
    words = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    prepare_dataset(parse_args(["--corpus", str(corpus), "--preprocessing_num_workers", "1", *words]))


def tar_with_a_way_out(folder: Path) -> Callable[[], object]:
    with tarfile.open(folder / "a.txt", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../outside.txt"))
    return lambda: prepare(folder, folder / "a.txt")


def zip_with_a_way_out(folder: Path) -> Callable[[], object]:
    with zipfile.ZipFile(folder / "a.txt", "w") as archive:
        archive.writestr("../../outside.txt", "x")
    return lambda: prepare(folder, folder / "a.txt")


def save_bert(folder: Path, **changes) -> Callable[[], object]:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(**sizes, intermediate_size=32)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    from turkbert.training.run import _model_errors, load_stock

    def load() -> None:
        with _model_errors(str(folder)):
            load_stock(folder)

    return load


def weights_that_are_a_pickle(folder: Path) -> Callable[[], object]:
    load = save_bert(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(as_torch_save(Evil(folder.parent / "ran")))
    return load


def model_with_code(folder: Path) -> Callable[[], object]:
    (folder / "evil.py").write_text(f"import os; os.mkdir({str(folder.parent / 'ran')!r})")
    return save_bert(folder, auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})


def tokenizer_with(tiny_dir: Path, **entries) -> Callable[[Path], Callable[[], object]]:
    def hostile(folder: Path) -> Callable[[], object]:
        shutil.copy(tiny_dir / "tokenizer" / "tokenizer.json", folder)
        config = json.loads((tiny_dir / "tokenizer" / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(config | entries))
        return lambda: load_tokenizer(folder)

    return hostile


def config_file(name: str, content: str) -> Callable[[Path], Callable[[], object]]:
    def hostile(folder: Path) -> Callable[[], object]:
        (folder / name).write_text(content)
        return lambda: parse_args([str(folder / name)])

    return hostile


HOSTILE = {
    "manifest with ..": (manifest_that_names("../secret"), "no valid MANIFEST.json"),
    "manifest with an absolute path": (manifest_that_names("FOLDER/secret"), "no valid MANIFEST.json"),
    "link out of the folder": (manifest_that_names("link"), "link is a link to a file elsewhere"),
    "gz bomb": (bomb("gz", gzip.compress), "bomb"),
    "xz bomb": (bomb("xz", lzma.compress), "bomb"),
    "zst bomb": (bomb("zst", zstandard.ZstdCompressor().compress), "bomb"),
    "tar as text": (tar_with_a_way_out, "a tar archive"),
    "zip as text": (zip_with_a_way_out, "a zip archive"),
    "pickle as weights": (weights_that_are_a_pickle, "weights cannot be read|model_name_or_path"),
    "code with a model": (model_with_code, "auto_map"),
    "oversized config": (config_file("c.json", "[" * 2_000_000), "over 1,000,000 bytes"),
    "deep config": (config_file("c.json", '{"seed": ' + "[" * 200_000 + "]" * 200_000 + "}"), "not readable as JSON"),
    "python tag": (config_file("c.yaml", "seed: !!python/object/apply:os.mkdir [ran]"), "flat .json"),
    "python tag in JSON": (config_file("c.json", '{"seed": "!!python/object/apply:os.mkdir [ran]"}'), "seed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_is_written_outside(tmp_path, monkeypatch, name):
    make, said = HOSTILE[name]
    monkeypatch.setattr(raw_text, "RATIO_FREE_BYTES", 1 << 20)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "here"
    folder.mkdir()
    load = make(folder)
    with pytest.raises(UserError, match=said) as error:
        load()
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["here"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, "auto_map"),
        ({"vocab_file": "../../secret.txt"}, "outside its folder"),
        ({"tokenizer_file": "/etc/passwd"}, "outside its folder"),
    ],
)
def test_a_hostile_tokenizer_is_refused(tiny_dir, tmp_path, entries, said):
    with pytest.raises(UserError, match=said):
        tokenizer_with(tiny_dir, **entries)(tmp_path)()


@pytest.mark.parametrize("size", ["oversized", "deep"])
def test_a_manifest_too_large_or_too_deep_is_none(output_dir, size):
    hostile = " " * (1 << 24) + "{}\n" if size == "oversized" else '{"key": ' + "[" * 200_000 + "\n"
    (output_dir / "checkpoint-2" / MANIFEST).write_text(hostile)
    assert find_checkpoint(output_dir) is None


# ---- S5: what comes with it


def constraints() -> dict[str, tuple[int, ...]]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "a constraint is an exact version"
    return {canonical(name): version_of(text) for name, text in pairs}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def required() -> dict[str, tuple[int, ...]]:
    """Every dependency of setup.cfg, extras included, with its least version."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    groups = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lines = [line.split(">=") for group in groups for line in group.strip().splitlines() if "turkbert[" not in line]
    return {canonical(name.strip()): version_of(text) for name, text in lines}


def test_every_dependency_is_pinned_to_a_tested_version():
    pinned = constraints()
    assert {name for name in required() if name not in pinned} == set()
    for name, least in required().items():
        assert pinned[name] >= least, name


@pytest.mark.parametrize(("name", "least"), [("torch", "2.10"), ("mlflow", "3.17.2")])
def test_least_safe_versions(name, least):
    """torch before loads a pickle that weights_only should refuse; mlflow before has known holes."""
    assert required()[name] >= version_of(least) and constraints()[name] >= version_of(least)


def test_continuous_integration_audits_the_pinned_versions():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "pip_audit" in workflow and "-r constraints.txt" in workflow
