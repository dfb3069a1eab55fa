"""gRPC ↔ control: takes reports, and hands out campaigns."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, NoReturn

import grpc.aio

from misgiving.collector.control.control import Control
from misgiving.collector.control.releases import Releases
from misgiving.collector.control.revoking import Revoking
from misgiving.collector.frames.devices import Caller, Gate
from misgiving.collector.store.database import Database
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.wire.campaigns import to_campaign_message
from misgiving.runtime.wire.releases import to_release_message
from misgiving.runtime.wire.reports import Report, to_report
from misgiving.v1 import control_pb2
from misgiving.v1.control_pb2 import (
    GetCampaignRequest,
    GetCampaignResponse,
    GetReleaseRequest,
    GetReleaseResponse,
    GetRevocationsRequest,
    GetRevocationsResponse,
    ReadReleaseRequest,
    ReadReleaseResponse,
    ReportRequest,
    ReportResponse,
    Revocations,
)
from misgiving.v1.control_pb2_grpc import FleetControlServicer

log = logging.getLogger(__name__)

SERVICE = control_pb2.DESCRIPTOR.services_by_name["FleetControl"].full_name

MAX_REPORT_BYTES = 64 << 10
"""Largest report that is taken; one has about two thousand bytes."""


class Steering(FleetControlServicer):
    """The service. All work of the database runs on worker threads.

    Args:
        database: of the store.
        gate: says which device calls.
        refuse: ends a call with the status of an error.
    """

    def __init__(
        self,
        database: Database,
        gate: Gate,
        refuse: Callable[[Any, Exception], Awaitable[NoReturn]],
    ) -> None:
        self._gate = gate
        self._control = Control(database)
        self._releases = Releases(database)
        self._revoking = Revoking(database)
        self._refuse = refuse

    async def Report(
        self, request: ReportRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ReportResponse:
        """Take a report; returns when it is durable."""
        try:
            device_id = self._device(request.report.device_id, context)
            if (size := request.report.ByteSize()) > MAX_REPORT_BYTES:
                raise InvalidInput(
                    f"report has {size:,} bytes; expected at most {MAX_REPORT_BYTES:,}. Send counts"
                )
            report = replace(to_report(request.report), device_id=device_id)
            await asyncio.to_thread(_add, self._control, self._releases, report)
        except Exception as error:
            await self._refuse(context, error)
        return ReportResponse()

    async def GetCampaign(
        self, request: GetCampaignRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetCampaignResponse:
        """What is meant for a device now."""
        try:
            device_id = self._device(request.device_id, context)
            found = await asyncio.to_thread(self._control.campaign_of, device_id, time.time_ns())
        except Exception as error:
            await self._refuse(context, error)
        return GetCampaignResponse(campaign=to_campaign_message(found) if found else None)

    async def GetRelease(
        self, request: GetReleaseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetReleaseResponse:
        """What is released to a device now."""
        try:
            device_id = self._device(request.device_id, context)
            found = await asyncio.to_thread(self._releases.release_of, device_id, request.name)
        except Exception as error:
            await self._refuse(context, error)
        return GetReleaseResponse(release=to_release_message(found) if found else None)

    async def ReadRelease(
        self, request: ReadReleaseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ReadReleaseResponse]:
        """The bytes of a release."""
        try:
            self._device(request.device_id, context)
            chunks = self._releases.read(request.digest, request.offset_bytes)
            while chunk := await asyncio.to_thread(next, chunks, b""):
                yield ReadReleaseResponse(chunk=chunk)
        except Exception as error:
            await self._refuse(context, error)

    async def GetRevocations(
        self, request: GetRevocationsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> GetRevocationsResponse:
        """What vehicles are to take no longer."""
        try:
            self._device(request.device_id, context)
            found = await asyncio.to_thread(self._revoking.newest, request.known_sha256)
        except Exception as error:
            await self._refuse(context, error)
        if found is None:
            return GetRevocationsResponse()
        carried = Revocations(list=found.text, signatures=found.signatures)
        return GetRevocationsResponse(revocations=carried)

    def _device(self, device_id: str, context: Any) -> str:
        return self._gate.name_of(Caller.of(context.auth_context()), device_id, "call")


def _add(control: Control, releases: Releases, report: Report) -> None:
    now = time.time_ns()
    if not control.add(report, now):
        return
    if said := releases.judge(report):
        log.error("%s", said)
    elif said := releases.advance_due(report, now):
        log.info("%s", said)
