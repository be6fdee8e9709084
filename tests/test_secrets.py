"""S2: tokens planted in the environment, a config and the arguments come out nowhere."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_stand_in import hub  # noqa: F401
from tests.training.conftest import tiny_dir  # noqa: F401
from tests.training.tiny import TINY
from turkbert.arguments import parse_args
from turkbert.errors import BAD_CONFIG, UserError
from turkbert.redaction import HIDDEN, holds_secret, redact, redact_logs

ROOT = Path(__file__).parents[1]
HF_TOKEN = "hf_" + "abcDEFghiJKLmnoPQRstuVWXyz"
SECRET = "kirmizi-balik-17-geheim"


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


def test_what_is_hidden_and_what_is_not():
    assert redact(f"GET https://ada:x@host/{HF_TOKEN}?a={SECRET}") == f"GET https://{HIDDEN}@host/{HIDDEN}?a={HIDDEN}"
    for text in ("hf_hub", "a false step", "https://host/a@b", "ada@host", "learning_rate 0.0001", "hf_model_name"):
        assert redact(text) == text
    assert holds_secret({"a": [{"b": f"x {SECRET}"}]}) and holds_secret({HF_TOKEN: 1})
    assert not holds_secret({"a": [1, None, True, "hf_hub"]})


def test_logs_are_made_without_secrets():
    make = logging.getLogRecordFactory()
    try:
        redact_logs()
        redact_logs()  # once more changes nothing
        record = logging.getLogger("some.library").makeRecord("n", 40, "f", 1, "url %s", (f"https://{SECRET}",), None)
        assert record.getMessage() == f"url https://{HIDDEN}"
        plain = logging.getLogger("n").makeRecord("n", 40, "f", 1, "%d of %d", (1, 2), None)
        assert plain.args == (1, 2)
    finally:
        logging.setLogRecordFactory(make)


@pytest.mark.parametrize("secret", [HF_TOKEN, SECRET])
@pytest.mark.parametrize(
    "place",
    [
        {"run_name": "SECRET"},
        {"corpus": ["a.txt", "b/SECRET.txt"]},
        {"learning_rate": "SECRET"},
        {"hub_token": "SECRET"},
        {"hub_tokn": "SECRET"},
        {"fsdp_config": {"key": "SECRET"}},
        {"hidden_act": "SECRET"},
    ],
)
def test_settings_with_a_secret_are_refused_without_repeating_it(tmp_path, place, secret):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(place).replace("SECRET", secret))
    ((name, value),) = place.items()
    words = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
    arguments = [f"--{name}", *(word.replace("SECRET", secret) for word in words)]
    for argv in ([str(config)], arguments):
        with pytest.raises(UserError) as error:
            parse_args(argv)
        assert error.value.exit_code == BAD_CONFIG and secret not in str(error.value)


def pretrain(config: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), str(config), *arguments]
    variables = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, env=variables, cwd=config.parent)


@pytest.mark.slow
def test_a_whole_run_lets_no_secret_out(tiny_dir, tmp_path, hub):  # noqa: F811
    """Files, output, MLflow's database and what was uploaded: 0 hits. The Hub works with the token all the same."""
    pytest.importorskip("mlflow")
    planted = [hub.token, SECRET, "wandb-geheim-geheim"]
    settings = {**TINY, "max_steps": 2, "eval_steps": 2, "save_steps": 1, "report_to": "mlflow", "push_to_hub": True}
    settings |= {"tokenizer_dir": str(tiny_dir / "tokenizer"), "data_dir": str(tiny_dir / "data")}
    settings |= {"stage_fractions": [0.5, 0.5], "hub_model_id": "my-bert", "hub_strategy": "checkpoint"}
    config = tmp_path / "run" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({**settings, "output_dir": "out"}))
    environment = {"WANDB_API_KEY": planted[2], "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/run/mlflow.db"}
    refused = pretrain(config, "--run_name", hub.token, **environment)
    assert refused.returncode == BAD_CONFIG
    done = pretrain(config, **environment)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert hub.model("my-bert").files

    texts = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert str(tmp_path / "run" / "mlflow.db") in texts and len(texts) > 30
    texts |= {"out": done.stdout, "err": done.stderr, "refused": refused.stderr + refused.stdout}
    texts |= {f"hub {name}": text for name, text in hub.model("my-bert").files.items()}
    texts |= {"messages": "".join(hub.model("my-bert").messages).encode()}
    hits = [(name, secret) for name, text in texts.items() for secret in planted if secret.encode() in text]
    assert hits == []
    assert b"hub_token" not in b"".join(text for name, text in texts.items() if not name.endswith(".db"))
