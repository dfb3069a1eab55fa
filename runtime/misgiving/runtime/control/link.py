"""gRPC ↔ the vehicle's side of the fleet's control."""

from collections.abc import Iterator
from pathlib import Path

import grpc

from misgiving.runtime.bundles.revocations import SignedList
from misgiving.runtime.net.connecting import Reopening, through_proxy
from misgiving.runtime.wire.campaigns import Campaign, to_campaign
from misgiving.runtime.wire.releases import Release, to_release
from misgiving.v1.control_pb2 import (
    GetCampaignRequest,
    GetReleaseRequest,
    GetRevocationsRequest,
    ReadReleaseRequest,
    ReportRequest,
)
from misgiving.v1.control_pb2_grpc import FleetControlStub

_DEADLINE_S = 10.0


class Link:
    """A connection to a collector. For one thread, but for :meth:`close`.

    Args:
        target: HOST:PORT.
        tls: folder of our certificates, see ``net/tls.py``; None for a collector without TLS.
    """

    def __init__(self, target: str, tls: Path | None = None) -> None:
        self._target = target
        self._channel = Reopening(target, 10.0, tls=tls)
        self._stub = FleetControlStub(self._channel.channel)

    def __str__(self) -> str:
        return self._target + through_proxy(self._target)

    def report(self, body: bytes) -> None:
        """Hand over a serialised report; acknowledged when this returns.

        Raises:
            grpc.RpcError: it is not.
        """
        request = ReportRequest()
        request.report.ParseFromString(body)
        self._stub.Report(request, timeout=_DEADLINE_S)

    def campaign(self, device_id: str) -> Campaign | None:
        """What is meant for a device now.

        Raises:
            grpc.RpcError: nobody says so.
        """
        request = GetCampaignRequest(device_id=device_id)
        response = self._stub.GetCampaign(request, timeout=_DEADLINE_S)
        return to_campaign(response.campaign) if response.HasField("campaign") else None

    def release(self, device_id: str, name: str) -> Release | None:
        """What is released to a device with a model of this name.

        Raises:
            grpc.RpcError: nobody says so.
        """
        request = GetReleaseRequest(device_id=device_id, name=name)
        response = self._stub.GetRelease(request, timeout=_DEADLINE_S)
        return to_release(response.release) if response.HasField("release") else None

    def revocations(self, device_id: str, known_sha256: str) -> SignedList | None:
        """What the fleet revokes; None where it is nothing else than what is known.

        Raises:
            grpc.RpcError: nobody says so.
        """
        request = GetRevocationsRequest(device_id=device_id, known_sha256=known_sha256)
        response = self._stub.GetRevocations(request, timeout=_DEADLINE_S)
        if not response.HasField("revocations"):
            return None
        return SignedList(response.revocations.list, response.revocations.signatures)

    def read(self, device_id: str, digest: str, offset: int, limit_s: float) -> Iterator[bytes]:
        """The bytes of a release from an offset on, for so long at most.

        Raises:
            grpc.RpcError: it was cut.
        """
        request = ReadReleaseRequest(device_id=device_id, digest=digest, offset_bytes=offset)
        for response in self._stub.ReadRelease(request, timeout=limit_s):
            yield response.chunk

    def renew(self) -> None:
        """After a failure: go on with the certificates of now."""
        if self._channel.reopen():
            self._stub = FleetControlStub(self._channel.channel)

    def close(self) -> None:
        """Cancel the call under way, from any thread."""
        self._channel.channel.close()


def is_permanent(error: Exception) -> bool:
    """Whether the same call would be refused again."""
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.INVALID_ARGUMENT


def is_older(error: Exception) -> bool:
    """Whether the collector knows no such call yet."""
    return isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.UNIMPLEMENTED


def said(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
