"""The store as a Dagster resource: address and credentials, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from dagster_aws.s3 import S3Resource

    from neuro_assets.config import StoreConfig
    from neuro_assets.store import Store


S3_SCHEME = "s3://"


class StoreResource(dg.ConfigurableResource):
    """Where outputs are kept.

    The S3 fields are those of `dagster_aws.s3.S3Resource`, which is made of them only for an S3
    URL: importing it takes two seconds, and every process of a run would wait for it. Credentials
    that are not given (as `dg.EnvVar`) are found in the usual chain: environment
    (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`), profile, instance role.
    """

    url: str = Field(description="A folder, or s3://bucket/prefix")
    scratch: str | None = Field(
        default=None, description="Local folder for temporary files; the system's when empty"
    )
    id: str = Field(default="", description="Identity of the store, where lab.yaml names one")
    endpoint_url: str | None = Field(default=None, description="For stores other than AWS")
    region_name: str | None = Field(default=None, description="S3 region")
    profile_name: str | None = Field(default=None, description="Profile of the AWS configuration")
    aws_access_key_id: str | None = Field(default=None, description="Give it as dg.EnvVar")
    aws_secret_access_key: str | None = Field(default=None, description="Give it as dg.EnvVar")

    @classmethod
    def of(cls, config: StoreConfig, scratch: str | None = None) -> StoreResource:
        """Make the resource of a configuration.

        Parameters
        ----------
        config : StoreConfig
            Its `url`, `endpoint_url` and `region`.
        scratch : str, optional
            Local folder for temporary files.

        Returns
        -------
        StoreResource
            Credentials are taken from the environment when it is used.
        """
        return cls(
            url=config.url,
            scratch=scratch,
            id=config.id,
            endpoint_url=config.endpoint_url,
            region_name=config.region,
        )

    def store(self) -> Store:
        """Open the store, if it is the lab's.

        Returns
        -------
        Store
            Can be sent to another process.
        """
        from neuro_assets.store import Store
        from neuro_assets.store.identity import admit
        from neuro_assets.store.opening import lab_memory

        options = self.s3_options() if self.url.startswith(S3_SCHEME) else None
        scratch = Path(self.scratch) if self.scratch else None
        store = Store(self.url, storage_options=options, scratch=scratch)
        admit(store, expected=self.id, memory=lab_memory())
        return store

    def s3_options(self) -> dict[str, Any]:
        """Say how S3 is reached, for s3fs.

        Returns
        -------
        dict
            See `storage_options`.
        """
        from dagster_aws.s3 import S3Resource

        return storage_options(
            S3Resource(
                endpoint_url=self.endpoint_url,
                region_name=self.region_name,
                profile_name=self.profile_name,
                aws_access_key_id=self.aws_access_key_id,
                aws_secret_access_key=self.aws_secret_access_key,
            )
        )


def storage_options(s3: S3Resource) -> dict[str, Any]:
    """Say in s3fs's words what an `S3Resource` says in boto3's.

    Parameters
    ----------
    s3 : S3Resource
        Dagster's resource.

    Returns
    -------
    dict
        Options of `s3fs.S3FileSystem` without those that are not set, and our `max_attempts`.
    """
    options = {
        "key": s3.aws_access_key_id,
        "secret": s3.aws_secret_access_key,
        "token": s3.aws_session_token,
        "profile": s3.profile_name,
        "endpoint_url": s3.endpoint_url,
        "anon": s3.use_unsigned_session or None,
        "use_ssl": None if s3.use_ssl else False,
        "client_kwargs": _given({"region_name": s3.region_name, "verify": s3.verify}) or None,
        "max_attempts": s3.max_attempts,
    }
    return _given(options)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
