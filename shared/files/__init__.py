"""What users upload: rows in PostgreSQL, bytes on disk or in an S3-compatible store.

A file consists of blobs. Each blob has a row before it has a byte, and loses the row after its
bytes are gone, so nothing that is stored is unknown: a blob that belongs to no file or upload and
whose lease is over is swept, whoever died while it arrived.
"""
