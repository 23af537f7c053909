"""What the site needs from outside docs/: pictures of the benchmarks, under the links that the pages have in git."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures of `benchmarks/results/`."""
    for picture in sorted(RESULTS.glob("*.svg")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point to them."""
    return markdown.replace("(../benchmarks/results/", "(results/")
