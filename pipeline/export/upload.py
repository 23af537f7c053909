"""An export to the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from .. import UserError
from ..words import error_line

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def ready(repository: str) -> None:
    """Look, before anything is computed, whether something could be uploaded at all.

    Raises UserError for a name that is none, and if nobody is logged in here.
    """
    import huggingface_hub

    if not NAME.fullmatch(repository):
        raise UserError(f"--push {repository}: not OWNER/NAME; pass the name of a model repository")
    if not huggingface_hub.get_token():
        raise UserError(f"--push {repository}: not logged in to the Hub; run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repository: str) -> str:
    """Upload `folder` as the model `repository`, made if it is not there; returns its address.

    Raises UserError if the Hub is out of reach or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi()
    try:
        address = api.create_repo(repository, repo_type="model", exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model and card")
        return str(address)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        reason = "this login may not write there" if status in (401, 403) else f"the Hub answered {status}"
        raise UserError(f"--push {repository}: {reason}; the export itself is in {folder}") from error
    except (OSError, OfflineModeIsEnabled, ValueError) as error:
        raise UserError(
            f"--push {repository}: no upload ({error_line(error)}); the export itself is in {folder}"
        ) from error
    except Exception as error:  # the client's errors of connection derive from nothing that is common
        raise UserError(
            f"--push {repository}: the Hub is out of reach ({type(error).__name__}: {error_line(error)}); "
            f"the export itself is in {folder}"
        ) from error
