"""MkDocs hooks that generate the pages of the website that are not written by hand.

The quick start is the README, the page on the starter model is its card, the reference of the
command line consists of the help texts of the commands, the page of examples shows the scripts of
``examples/`` with the figures that ``docs/figures.py`` makes, and each notebook that it ran there
is a page.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from rhm.augmentation.colours import COLOUR
from rhm.augmentation.geometry import GEOMETRY
from rhm.cli.main import app
from rhm.training.config import read_config
from rhm.training.configs.complete import complete_yaml
from rhm.training.configs.named_configs import config_file
from rhm.training.unlabelled.target_config import METHODS

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are generated from other files."""
    pages = {
        "index.md": readme(),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "reference/cli.md": command_line(),
        "reference/augmentation.md": augmentations(),
        "reference/configuration.md": configuration(),
        "examples.md": gallery(),
        "starter.md": card("starter"),
    }
    for path, content in (pages | notebooks()).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Redirect links to files of the repository to the pages that show them."""
    for above in ("", "../"):  # from the README, which is a page of this folder here, and pages
        markdown = markdown.replace(
            f"]({above}rhm/models/shipped/starter/card.md)", "](starter.md)"
        )
    return markdown.replace("](../README.md)", "](index.md)")


def readme() -> str:
    """Return the README with links that are valid on the first page of the site."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, page in (("CONTRIBUTING", "contributing"), ("CHANGELOG", "changes")):
        text = text.replace(f"]({name}.md)", f"]({page}.md)")
    return text.replace("](docs/", "](")


def card(name: str) -> str:
    """Return the card of a model that comes with rhm."""
    path = ROOT / "rhm" / "models" / "shipped" / name / "card.md"
    return path.read_text(encoding="utf-8")


def command_line() -> str:
    """Return the reference of all commands, generated from their help texts."""
    command = get_command(app)
    return get_docs_for_click(obj=command, ctx=Context(command), name="rhm", title="Command line")


def configuration() -> str:
    """Return every setting of a configuration, with its default and what it means."""
    name = "my-city"
    text = config_file(name).read_text(encoding="utf-8")
    return (
        "# Configuration\n\nEvery setting of a configuration, with its default and what it means: "
        f"what `rhm configs {name} --all` prints. A configuration file names only what it changes; "
        "`--set section.key=value` changes a setting for one run, and `config.yaml` in the folder "
        "of a run has them all.\n\n"
        f"```yaml\n{complete_yaml(read_config(name), text)}```\n"
    )


def augmentations() -> str:
    """Return what the section ``augment`` of a configuration can name, from the registries."""
    needs = {
        name: [
            *(["`augment.bank`"] if colour.from_bank else []),
            *(["`augment.targets`"] if colour.from_targets else []),
            *([f"{colour.bands} bands"] if colour.bands else []),
        ]
        for name, colour in COLOUR.items()
    }
    parts = [
        "# Augmentation\n\nWhat a configuration can name in its section `augment`; the settings "
        "are in the [quick start](../index.md#colour-in-detail).\n\n## `augment.colour`\n",
        "| name | what it does | what it needs |\n|---|---|---|",
        *(f"| `{name}` | {COLOUR[name].text} | {', '.join(needs[name])} |" for name in COLOUR),
        "\n## `augment.geometry`\n\n| name | what it does | by default |\n|---|---|---|",
        *(
            f"| `{name}` | {entry.text} | {'on' if entry.default else 'off'} |"
            for name, entry in GEOMETRY.items()
        ),
        "\n## `target.method`\n\nThe settings are on the page about [adapting]"
        "(../adapting.md#beside-the-source-imagery).\n\n| name | what it does |\n|---|---|",
        *(f"| `{name}` | {entry.text} |" for name, entry in METHODS.items()),
    ]
    return "\n".join(parts) + "\n"


def notebooks() -> dict[str, str | bytes]:
    """Return a page for each notebook, and its pictures, by path."""
    found: dict[str, str | bytes] = {}
    for stored in sorted((ROOT / "examples").glob("*.ipynb")):
        ran = ROOT / "docs" / "figures" / stored.name
        text, resources = MarkdownExporter().from_filename(
            str(ran if ran.is_file() else stored),
            resources={"unique_key": stored.stem, "output_files_dir": stored.stem},
        )
        said = f"\n\nThis page is the notebook `examples/{stored.name}` with its outputs.\n"
        text = re.sub(r"(?m)^(# .+)$", rf"\1{said}", text, count=1)
        found[f"notebooks/{stored.stem}.md"] = text.replace("](../docs/", "](../")
        found |= {f"notebooks/{name}": data for name, data in resources["outputs"].items()}
    return found


def gallery() -> str:
    """Return the page of all examples with their figures."""
    parts = [
        "# Examples\n\nThese scripts from the folder `examples` run on synthetic data, so there is "
        "nothing to download. Each script writes the figure that is shown here:\n\n"
        "    python examples/match_towns.py figure.png\n"
    ]
    for script in sorted((ROOT / "examples").glob("*.py")):
        code = script.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(code)) or ""
        title, _, text = docstring.partition("\n\n")
        body = re.sub(r'^""".*?"""\n+', "", code, flags=re.DOTALL)
        figure = f"figures/{script.stem}.png"
        parts.append(f"## {title.rstrip('.')}\n\n{text}\n\n![{title}]({figure})\n")
        parts.append(f'??? example "`examples/{script.name}`"\n')
        parts.append("    ```python\n" + "".join(f"    {line}\n" for line in body.splitlines()))
        parts.append("    ```\n")
    return "\n".join(parts)
