"""Objects in S3, or what speaks like it; boto3 finds credentials, region and endpoint itself."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from misgiving.collector.store.database import StoreUnavailable
from misgiving.collector.store.objects import check_object
from misgiving.collector.store.uploads import checked, is_digest
from misgiving.runtime.errors import DataError, FailedPrecondition, InvalidInput

_PUTS = 32
"""At once: each waits for the store, not for this machine."""
_MISSING = ("404", "NoSuchKey")


class S3Objects:
    """Objects of a bucket. Each is put whole, and S3 acknowledges what is durable.

    Args:
        url: ``s3://BUCKET/PREFIX``; the prefix may be missing.

    Raises:
        InvalidInput: the URL is another's.
        FailedPrecondition: the bucket is missing, or not ours to use.
        StoreUnavailable: nobody answers.
    """

    in_files = False

    def __init__(self, url: str) -> None:
        self._bucket, self._prefix = _place(url)
        self._name = f"s3://{self._bucket}"
        self._puts = ThreadPoolExecutor(_PUTS)
        with self._translated():
            self._client = _client()
            self._check_bucket()

    def has(self, digest: str) -> bool:
        key = self._key(digest)
        with self._translated():
            return self._there(lambda: self._client.head_object(Bucket=self._bucket, Key=key))

    def body(self, digest: str) -> bytes:
        key, found = self._key(digest), b""

        def get() -> None:
            nonlocal found
            found = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

        name = f"{self._name}/{key}"
        with self._translated():
            if not self._there(get):
                raise DataError(f"{name}: No such object; restore it from a backup")
        return check_object(name, digest, found)

    def make(self, uploads: Mapping[str, tuple[Path, bytes]]) -> None:
        with self._translated():
            list(self._puts.map(self._put, uploads, (body for _, body in uploads.values())))

    def _put(self, digest: str, body: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._key(digest), Body=body)

    def delete(self, digest: str) -> None:
        with self._translated():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(digest))

    def digests(self, prefix: str) -> set[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._translated():
            listed = pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}/")
            keys = [one["Key"] for page in listed for one in page.get("Contents", ())]
        return set(filter(is_digest, (key.rpartition("/")[2] for key in keys)))

    def made_ns(self, digest: str) -> int:
        key = self._key(digest)
        with self._translated():
            made = self._client.head_object(Bucket=self._bucket, Key=key)["LastModified"]
        return int(made.timestamp() * 1e9)

    def _key(self, digest: str) -> str:
        return f"{self._prefix}{checked(digest)[:2]}/{digest}"

    def _there(self, ask: Any) -> bool:
        from botocore.exceptions import ClientError

        try:
            ask()
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return False
            raise
        return True

    def _check_bucket(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError

        expected = "expected a bucket that these credentials may read and write"
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ConnectionError:
            raise
        except ClientError as error:
            code = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code >= 500:
                raise
            why = "there is no such bucket" if code == 404 else str(error)
            raise FailedPrecondition(
                f"{self._name}: {why}; {expected}. Make it, or name another --objects"
            ) from error
        except BotoCoreError as error:  # no credentials among them
            raise FailedPrecondition(
                f"{self._name}: {error}; {expected}. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or what else boto3 reads"
            ) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable(
                f"objects at {self._name}: {error}; expected it to answer. "
                "Start it, or name another --objects"
            ) from error


def _client() -> Any:
    import boto3  # takes a second, which only who uses it should wait
    from botocore.config import Config

    # For those who put, and for as many who ask.
    limits = Config(connect_timeout=10, read_timeout=60, max_pool_connections=2 * _PUTS)
    return boto3.session.Session().client("s3", config=limits)


def _place(url: str) -> tuple[str, str]:
    """Bucket, and what comes before the digest in a key."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInput(
            "--objects is no URL; expected s3://BUCKET/PREFIX. Correct it"
        ) from error
    expected = "expected s3://BUCKET/PREFIX. For a folder leave it out: objects are in --store then"
    if parts.scheme != "s3":
        scheme = f"{parts.scheme}:" if parts.scheme else "no URL"
        raise InvalidInput(f"--objects is {scheme}; {expected}")
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.netloc:
        raise InvalidInput(
            "--objects has more than a bucket and a prefix, or no bucket; expected "
            "s3://BUCKET/PREFIX. Set AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID for the rest"
        )
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""
