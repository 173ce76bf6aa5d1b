"""The service with the API of visual experiments alone, which is up in a moment: ``python -m tests.visual_service``."""

from __future__ import annotations

import uvicorn

from app import service
from app.main import create_app
from app.settings import Settings


def main() -> None:
    service.FAMILIES = ("app.visual.family",)
    settings = Settings()
    uvicorn.run(
        create_app(settings), host=settings.host, port=settings.port, log_config=None, timeout_graceful_shutdown=10
    )


if __name__ == "__main__":
    main()
