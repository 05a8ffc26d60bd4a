#!/usr/bin/env bash
# warcio 1.8.1, brotli 1.2.0: a WARC record whose page has "Content-Encoding: br" is read without a complaint until its text is
# asked for: content_stream().read() then raises AttributeError, because warcio sets an attribute on brotli's Decompressor, which
# takes none. A record packed with gzip comes back whole. Without the brotli package there is no error either way: the
# packed bytes come back as if they were the page.
# Seen: gzip True, br AttributeError, br without the package False.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q "warcio==1.8.1" "brotli==1.2.0"
cat > archive.py <<'PY'
import gzip
import io
import sys

from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

PAGE = b"<html><body>" + b"The lamp stands on the table. " * 40 + b"</body></html>"


def outcome(encoding, packed):
    """Whether a page comes back as it was, or what is raised."""
    archive = io.BytesIO()
    writer = WARCWriter(archive, gzip=True)
    headers = StatusAndHeaders(
        "200 OK", [("Content-Type", "text/html"), ("Content-Encoding", encoding)], protocol="HTTP/1.1"
    )
    payload = io.BytesIO(packed)
    writer.write_record(
        writer.create_warc_record("http://example.org/", "response", payload=payload, http_headers=headers)
    )
    archive.seek(0)
    for record in ArchiveIterator(archive):
        try:
            return str(record.content_stream().read() == PAGE)
        except AttributeError as error:
            return type(error).__name__


packed = open("page.br", "rb").read() if len(sys.argv) > 1 else None
if packed is None:
    import brotli

    packed = brotli.compress(PAGE)
    open("page.br", "wb").write(packed)
print("gzip", outcome("gzip", gzip.compress(PAGE)), "br", outcome("br", packed))
PY
with=$(venv/bin/python archive.py)
venv/bin/pip uninstall -q -y brotli
without=$(venv/bin/python archive.py packed)
echo "with the package: $with; without: $without"
[ "$with" = "gzip True br AttributeError" ] && [ "$without" = "gzip True br False" ] || { echo "the behaviour has changed"; exit 1; }
