"""Share rows of a plain file, and functions that write and read files of them."""

import io
import zipfile

from adapler_jax.data.sources.files import load_files
from adapler_jax.serving.streams import read_windows

ROWS = [{"text": f"film {number} é", "label": ("neg", "pos")[number % 2]} for number in range(12)]
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}


def zipped(content, *names):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return sink.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def table(path, **options):
    (found,) = load_files(str(path), **options).values()
    return found


def streamed(content, kind, where="in", **options):
    found = []
    windows = read_windows(
        io.BytesIO(content), kind, where, columns=["text"], log=found.append, **options
    )
    return [text for window in windows for text in window.texts], found
