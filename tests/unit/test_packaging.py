"""What gets installed: one truth for dependencies, tested versions for all of them, and a wheel that works anywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests.tiny import tiny, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
REQUIRED = {
    *("torch", "transformers", "transformer-lens", "numba", "pandas", "pyarrow", "safetensors", "gguf"),
    *("plotly", "typer", "rich"),
}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in parsed}


def pins(file: str, python: str) -> dict[str, Version]:
    """Pinned versions in a constraints file that hold for one Python version on Linux."""
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, Version] = {}
    for requirement in map(Requirement, filter(None, lines)):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{file}: {requirement} is no exact version"
            assert canonicalize_name(requirement.name) not in found, f"{file}: {requirement.name} twice for {python}"
            found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


RUNTIME = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}


def test_runtime_dependencies_are_the_promised_ones() -> None:
    assert set(RUNTIME) >= REQUIRED
    for name, requirement in RUNTIME.items():
        (specifier,) = requirement.specifier
        assert specifier.operator == ">=", f"{name} is {requirement.specifier}; a library states its lower end only"
    assert "jupyterlab" in EXTRAS["notebook"]
    assert "jupyterlab" not in RUNTIME


@pytest.mark.parametrize("python", PYTHONS)
def test_tested_versions_cover_and_satisfy_every_dependency(python: str) -> None:
    tested = pins("constraints.txt", python)
    environment = {**default_environment(), "python_version": python, "extra": ""}
    for name, requirement in {**RUNTIME, **EXTRAS["notebook"], **EXTRAS["dev"]}.items():
        if name == PROJECT["name"] or (requirement.marker and not requirement.marker.evaluate(environment)):
            continue
        assert name in tested, f"constraints.txt has no version of {name} for Python {python}"
        assert requirement.specifier.contains(tested[name]), f"{name}: {tested[name]} against {requirement.specifier}"


def test_lowest_versions_are_the_lower_ends() -> None:
    lowest = pins("constraints-lowest.txt", "3.11")
    assert set(lowest) == set(RUNTIME)
    for name, requirement in RUNTIME.items():
        (specifier,) = requirement.specifier
        assert Version(specifier.version) == lowest[name], f"{name}: {specifier} against {lowest[name]}"


def test_conda_environment_points_at_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-c constraints.txt", "-e .[notebook]"]
    assert "notebook" in EXTRAS

    names = [re.split(r"[ =<>]", entry)[0] for entry in conda]
    assert sorted(names) == ["pip", "python"], "dependencies belong into pyproject.toml"
    spec = SpecifierSet(conda[names.index("python")].removeprefix("python").strip())
    stated = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert stated == set(PYTHONS)
    for minor in range(8, 18):
        allowed = Version(f"3.{minor}") in spec
        assert allowed == (f"3.{minor}" in stated), f"Python 3.{minor}: environment.yml and pyproject.toml differ"
        assert not allowed or Version(f"3.{minor}") in SpecifierSet(PROJECT["requires-python"])


def test_this_environment_is_the_tested_one_or_the_lowest() -> None:
    """The versions the suite runs on are written down: no silent drift from the constraints."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    installed = {name: Version(Version(metadata.version(name)).public) for name in RUNTIME}
    written_down = [pins("constraints.txt", python), pins("constraints-lowest.txt", python)]
    differences = [{n: (str(installed[n]), str(p[n])) for n in RUNTIME if installed[n] != p[n]} for p in written_down]
    assert {} in differences, f"installed against constraints.txt: {differences[0]}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, from the source as it stands."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def test_wheel_carries_probes_and_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("interp", "probes"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names
    for path in (ROOT / "data").rglob("*"):
        if path.is_file():
            assert "interp/_data/" + path.relative_to(ROOT / "data").as_posix() in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"interp", "probes", f"interp_workbench-{PROJECT['version']}.dist-info"}


@pytest.fixture
def clean_place(wheel: Path, tmp_path: Path) -> Path:
    """A new virtual environment with the wheel in it; it borrows this one's dependencies, but not the checkout.

    Path files are not followed from a borrowed folder, so an editable install there is out of reach.
    """
    place = tmp_path / "clean"
    venv.create(place, with_pip=False, symlinks=True)
    python = str(place / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", str(wheel), cwd=tmp_path)
    home = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).stdout.strip()
    Path(home, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import interp, probes; print(interp.__file__, probes.__file__)", cwd=tmp_path).stdout
    assert all(Path(file).is_relative_to(place) for file in where.split()), where
    return place


def test_wheel_scans_a_tiny_model_from_another_folder(clean_place: Path, tmp_path: Path) -> None:
    """Installed into a clean place and run where no checkout can be imported, the command line does the main job."""
    work = tmp_path / "work"
    model = tiny("llama")
    model.save_pretrained(work / "model")
    tiny_tokenizer(model.config.vocab_size).save_pretrained(work / "model")
    command = (str(clean_place / "bin" / "interp"), "scan", "--model", "model", "--find", "sinks")
    options = ("--limit", "8", "--max-length", "48", "--out", "run", "--json")
    done = run(*command, *options, cwd=work, INTERP_CACHE=str(tmp_path / "cache"))
    assert isinstance(json.loads(done.stdout), (list, dict))
    files = {path.name for path in (work / "run").iterdir()}
    assert {"run.json", "findings.parquet", "tensors.safetensors", "report.html"} <= files
