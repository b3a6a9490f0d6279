"""Folders of layers are checked before they are replaced."""

from pathlib import Path

import pytest

from rhm.errors import OutputError
from rhm.mapping.layer_files import INDEX, check_folder


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", overwrite=False)
    check_folder(tmp_path, overwrite=False)
    (tmp_path / INDEX).write_text("{}")
    check_folder(tmp_path, overwrite=False)
    (tmp_path / "12-1-1.parquet").write_bytes(b"PAR1 of somebody")
    with pytest.raises(OutputError, match="not written by a prediction"):
        check_folder(tmp_path, overwrite=False)
    check_folder(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="it is a file"):
        check_folder(tmp_path / INDEX, overwrite=True)
