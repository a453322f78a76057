"""The one step that pyproject.toml cannot say: notebooks/ lies beside the package, and travels inside it in a wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithNotebooks(build_py):
    """Copies the notebooks into the package that is built; a clone that is installed as it lies keeps its own."""

    def run(self) -> None:
        super().run()
        into = Path(self.build_lib, "mrl_lab", "notebooks")
        for file in () if self.editable_mode else sorted(Path("notebooks").glob("*.ipynb")):
            into.mkdir(exist_ok=True)
            self.copy_file(str(file), str(into))


setup(cmdclass={"build_py": WithNotebooks})
