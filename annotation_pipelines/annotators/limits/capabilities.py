"""What an endpoint was found to do and not to do, remembered for a day: servers learn, too."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from annotation_pipelines.annotators.shared_state import SharedState, machine_folder

REMEMBERED_SECONDS = 86_400.0


class Capabilities:
    """What was found out about one endpoint and model, by all processes of this machine.

    Args:
        endpoint: The base URL.
        folder: Where the processes meet; default: this user's on this machine.
    """

    def __init__(self, endpoint: str, model: str, folder: Path | None = None) -> None:
        name = hashlib.blake2b(f"{endpoint}\0{model}".encode(), digest_size=12).hexdigest()
        self._state = SharedState((folder or machine_folder()) / "capabilities" / f"{name}.json")

    def get(self) -> dict[str, Any]:
        """What is known, by name.

        Raises:
            StoreError: The shared file cannot be used.
        """
        try:
            with self._state.turn() as document:
                now = time.time()
                return {
                    name: value
                    for name, (value, at) in document.items()
                    if isinstance(at, int | float) and now - REMEMBERED_SECONDS < at <= now
                }
        except (TypeError, ValueError):
            return {}
        finally:
            self._state.close()

    def remember(self, **found: Any) -> None:
        """Keep what was found out.

        Raises:
            StoreError: The shared file cannot be used.
        """
        with self._state.turn() as document:
            document.update({name: [value, time.time()] for name, value in found.items()})
        self._state.close()
