"""An S3 server that refuses writes while a file says so.

    python -m tests.tools.share.s3_server PORT FILE

The two words in FILE are the status and the code of the answer to every request
that writes, as `507 InsufficientStorage`; without the file, or with an empty one, all goes well.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def main(port: int, refusal: Path) -> None:
    served = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        ordered = refusal.read_text().split() if refusal.exists() else []
        if environ["REQUEST_METHOD"] in ("PUT", "POST") and ordered:
            status, code = ordered
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(f"{status} {code}", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()]
        answered: Iterable[bytes] = served(environ, start)
        return answered

    make_server("127.0.0.1", port, answer, threaded=True).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
