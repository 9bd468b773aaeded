"""An S3 server of our own on loopback, which can go away and come back with all that is in it."""
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

BUCKET = "scrapeopt-prices"
HERE = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "of-the-tests", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1"}  # a server that is gone is not to be waited for


class Bucket:
    "A bucket on a server of our own."

    def __init__(self, port: int = 0):
        from moto.server import ThreadedMotoServer
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._make, self._server = ThreadedMotoServer, ThreadedMotoServer("127.0.0.1", port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    @property
    def environment(self) -> dict[str, str]:
        "What a machine has to know."
        return HERE | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    def go(self) -> None:
        "Answer no more; what is in the bucket stays."
        self._server.stop()

    def come_back(self) -> None:
        "Answer again, at the same address."
        self._server = self._make("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def names(self, under: str) -> list[str]:
        "The objects below a prefix."
        import s3fs
        s3fs.S3FileSystem.clear_instance_cache()
        root = f"{BUCKET}/{under}"
        found = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True).find(root)
        return sorted(name.removeprefix(f"{root}/") for name in found)

    def make(self, name: str = BUCKET) -> None:
        "Make a bucket."
        import boto3
        boto3.client("s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"]).create_bucket(Bucket=name)

    @contextmanager
    def asking_for_keys(self) -> Iterator[tuple[str, str]]:
        "Let nobody in but the one with this id and secret."
        import boto3
        from moto import settings
        from moto.core.authorization import ActionAuthenticatorMixin
        iam, user = boto3.client("iam", endpoint_url=self.environment["AWS_ENDPOINT_URL"]), "scraper"
        iam.create_user(UserName=user)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        may = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps(may))
        ActionAuthenticatorMixin.request_count, settings.INITIAL_NO_AUTH_ACTION_COUNT = 0, 0
        try: yield key["AccessKeyId"], key["SecretAccessKey"]
        finally: settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")


@contextmanager
def bucket() -> Iterator[Bucket]:
    "A bucket, and an environment in which this process and its children find it."
    before = {key: os.environ.get(key) for key in (*HERE, "AWS_ENDPOINT_URL")}
    made = Bucket()
    os.environ.update(made.environment)
    try:
        made.make()
        yield made
    finally:
        made.go()
        for key, value in before.items():
            if value is None: os.environ.pop(key, None)
            else: os.environ[key] = value
