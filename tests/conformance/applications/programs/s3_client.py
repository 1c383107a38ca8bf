"""Uses an S3 server by Amazon's own client: s3_client.py URL. A fault ends it with a traceback."""

from __future__ import annotations

import io
import os
import sys
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

NAMES = ("plain.txt", "folder/with space+plus.txt", "año/ñandú %41.txt", "double//slash", "dot/./segment.txt")


def main() -> None:
    """Store, list, read, copy and delete objects, in one part and in many, signed by header and by query."""
    s3 = boto3.client(
        "s3",
        endpoint_url=sys.argv[1],
        aws_access_key_id="tests",
        aws_secret_access_key="tests-secret",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    s3.create_bucket(Bucket="tests")
    for name in NAMES:
        s3.put_object(Bucket="tests", Key=name, Body=name.encode(), Metadata={"origin": "tests"})
    listed = {entry["Key"] for entry in s3.list_objects_v2(Bucket="tests")["Contents"]}
    assert listed == set(NAMES), listed
    for name in NAMES:
        assert s3.get_object(Bucket="tests", Key=name)["Body"].read() == name.encode()
    large = os.urandom(12_000_000)
    parts = TransferConfig(multipart_threshold=5_242_880, multipart_chunksize=5_242_880)
    s3.upload_fileobj(io.BytesIO(large), "tests", "large", Config=parts)
    received = io.BytesIO()
    s3.download_fileobj("tests", "large", received, Config=parts)
    assert received.getvalue() == large
    assert s3.get_object(Bucket="tests", Key="large", Range="bytes=100-199")["Body"].read() == large[100:200]
    s3.copy_object(Bucket="tests", Key="copy", CopySource={"Bucket": "tests", "Key": NAMES[1]})
    assert s3.head_object(Bucket="tests", Key="copy")["ContentLength"] == len(NAMES[1].encode())
    signed = s3.generate_presigned_url("get_object", Params={"Bucket": "tests", "Key": NAMES[2]})
    with urllib.request.urlopen(signed, timeout=10) as response:
        assert response.read() == NAMES[2].encode()
    objects = [{"Key": name} for name in (*NAMES, "large", "copy")]
    assert len(s3.delete_objects(Bucket="tests", Delete={"Objects": objects})["Deleted"]) == len(objects)
    print("ok")


if __name__ == "__main__":
    main()
