"""Networks that other packages ship: their files are read, the packages are never imported.

They are installed without their dependencies (README): as declared ones they would bring torch or
hold numpy below 2.
"""

import importlib.util
from pathlib import Path
from typing import Final

from engine.errors import ConfigError

INSTALL_HINT: Final = "python -m pip install --no-deps mediapipe==0.10.21 silero-vad==6.2.3"


def model_folder(package: str, folder: str, file: str, what: str) -> Path:
    """A folder of an installed package.

    Args:
        package: its name for import.
        folder: within it.
        file: that must lie in the folder.
        what: the models, for the message.

    Raises:
        ConfigError: the package is not installed, or is a release without that file.
    """
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(place) / folder
        if (found / file).is_file():
            return found
    reason = f"this {package} carries none" if spec else f"{package} is not installed"
    raise ConfigError(f"The {what} are missing ({reason}): run `{INSTALL_HINT}`.")
