"""Interpreters of frameworks: what is said where one is lacking, and how one is made."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from app.cli import app
from app.settings import Settings
from app.visual.catalogue import Framework
from app.visual.frameworks import FOLDER, OWN, Own, command, installed, interpreter, lacking
from app.visual.frameworks import install as installation
from stream_jobs.local.errors import StackBusyError
from stream_jobs.local.locks import exclusive
from stream_jobs.local.progress import Step, silent

TINY = Own("tiny", "tiny", ("tiny",), "import tiny; assert tiny.ANSWER == 42", 0.001)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url=SecretStr(""))


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package that imports in a moment."""
    made = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("tiny.py", "ANSWER = 42\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return made


def require(folder: Path, wheel: Path, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the product name this wheel."""
    folder.mkdir(exist_ok=True)
    line = f"--no-index\n--find-links {wheel.parent}\ntiny==1.0 --hash=sha256:{digest}\n"
    (folder / "tiny.txt").write_text(line)
    monkeypatch.setattr(installation, "REQUIREMENTS", folder)


@pytest.mark.parametrize(
    ("framework", "said"),
    [
        (Framework.PYTORCH, "hlink frameworks install pytorch"),
        (Framework.TENSORFLOW, "hlink frameworks install tensorflow"),
        (Framework.MXNET, "MXNet was retired by its makers in 2023"),
    ],
)
async def test_given_nothing_installed_when_asked_then_the_remedy_is_told(
    settings: Settings, framework: Framework, said: str
) -> None:
    assert said in str(await lacking(settings, framework))
    assert await lacking(settings, Framework.SKLEARN) is None


async def test_given_a_named_interpreter_when_it_cannot_serve_then_it_is_said_why(tmp_path: Path) -> None:
    named = Settings(home=tmp_path, pytorch_python=tmp_path / "nowhere")
    assert "HLINK_PYTORCH_PYTHON names" in str(await lacking(named, Framework.PYTORCH))
    assert "is not there" in str(await lacking(named, Framework.PYTORCH))
    without = Settings(home=tmp_path, tensorflow_python=Path(sys.executable))
    assert "which lacks tensorflow" in str(await lacking(without, Framework.TENSORFLOW))
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no library' >&2; exit 3\n")
    broken.chmod(0o755)
    named = Settings(home=tmp_path, pytorch_python=broken)
    assert "which does not run: no library" in str(await lacking(named, Framework.PYTORCH))


def test_given_a_framework_when_installed_then_it_is_whole_or_not_there(
    settings: Settings, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = settings.home / FOLDER / TINY.name
    left = settings.home / FOLDER / ".tiny-0123"
    left.mkdir(parents=True)  # as an installation leaves it that was killed
    require(tmp_path / "required", wheel, hashlib.sha256(b"another").hexdigest(), monkeypatch)
    with pytest.raises(installation.InstallationFailed, match="HASHES"):
        installation.install(settings, TINY, silent)
    assert sorted(one.name for one in place.parent.iterdir()) == [".lock"]
    assert installed(settings, TINY) is None

    require(tmp_path / "required", wheel, hashlib.sha256(wheel.read_bytes()).hexdigest(), monkeypatch)
    told: list[Step] = []
    assert installation.install(settings, TINY, told.append)
    assert told[-1] == Step("tiny", "is installed", done=True)
    python = interpreter_of(settings)
    assert subprocess.run([python, "-c", "import tiny; print(tiny.ANSWER)"], capture_output=True).stdout == b"42\n"
    assert sorted(one.name for one in place.parent.iterdir()) == [".lock", "tiny"]
    assert not installation.install(settings, TINY, silent)

    # A release that names other versions installs them in its place.
    # Out of an index with other builds, they are not held against the hashes of ours.
    other = tmp_path / "index" / "tiny"
    other.mkdir(parents=True)
    (other / wheel.name).write_bytes(wheel.read_bytes())
    (other / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    (tmp_path / "required" / "tiny.txt").write_text("")
    (tmp_path / "required" / "tiny-large.txt").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    assert not installation.is_current(settings, TINY)
    assert installation.install(settings, TINY, silent, (tmp_path / "index").as_uri())
    assert installation.is_current(settings, TINY)
    assert installation.remove(settings, TINY)
    assert not installation.remove(settings, TINY)
    assert installed(settings, TINY) is None


def test_given_an_installation_under_way_when_another_begins_then_it_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "_LOCKED_WITHIN_S", 0.1)
    with exclusive(settings.home / FOLDER / ".lock", 1), pytest.raises(StackBusyError):
        installation.install(settings, TINY, silent)


def test_given_too_little_room_when_installed_then_it_is_refused(settings: Settings) -> None:
    large = Own("large", "large", (), "", 1e6)
    with pytest.raises(installation.InstallationFailed, match=r"needs 1e\+06 GiB"):
        installation.install(settings, large, silent)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["install", "mxnet"], "retired by its makers"),
        (["install", "rabbit"], "there are pytorch, tensorflow"),
        (["install", "tensorflow", "--index", "http://localhost:1"], "has one build only"),
    ],
)
def test_given_what_cannot_be_installed_when_asked_for_then_it_is_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.settings.settings", lambda: Settings(home=tmp_path))
    answer = CliRunner().invoke(app, ["frameworks", *arguments])
    assert answer.exit_code == 1
    assert said in answer.output


def test_given_the_frameworks_when_listed_then_each_says_whether_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.settings.settings", lambda: Settings(home=tmp_path))
    answer = CliRunner().invoke(app, ["frameworks", "list"])
    rows = {line.split()[1]: line for line in answer.output.splitlines()[1:] if line[:1].isdigit()}
    assert answer.exit_code == 0, answer.output
    assert list(rows) == ["sklearn", "tensorflow", "mxnet", "pytorch"]
    assert "ready" in rows["sklearn"]
    assert "hlink frameworks install pytorch" in rows["pytorch"]


def test_given_another_interpreter_when_the_engine_is_started_then_it_finds_our_modules(settings: Settings) -> None:
    started = command(settings, Framework.PYTORCH, "app.visual.engine.plan")
    assert started[0] == str(interpreter(settings, OWN[Framework.PYTORCH]))
    # In an interpreter without any package.
    done = subprocess.run([sys.executable, "-S", *started[1:]], capture_output=True, text=True, cwd="/", env={})
    assert (done.returncode, done.stderr) == (0, "")


def interpreter_of(settings: Settings) -> Path:
    return settings.home / FOLDER / TINY.name / "bin" / "python"
