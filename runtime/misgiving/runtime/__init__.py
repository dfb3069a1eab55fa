"""The vehicle's part: vocabulary, engines, the gRPC server and the spool. Never imports torch."""

from typing import TYPE_CHECKING

from misgiving.runtime.public import lazily

if TYPE_CHECKING:
    from misgiving.runtime.bundles.bundle import Bundle as Bundle
    from misgiving.runtime.bundles.keys import new_key as new_key
    from misgiving.runtime.bundles.manifest import Manifest as Manifest
    from misgiving.runtime.bundles.releasing import pack_bundle as pack_bundle
    from misgiving.runtime.bundles.releasing import sign_bundle as sign_bundle
    from misgiving.runtime.bundles.trust import Trust as Trust
    from misgiving.runtime.client import Client as Client
    from misgiving.runtime.draw import draw_result as draw_result
    from misgiving.runtime.engines.base import Engine as Engine
    from misgiving.runtime.engines.base import Prediction as Prediction
    from misgiving.runtime.engines.base import Provider as Provider
    from misgiving.runtime.errors import BundleError as BundleError
    from misgiving.runtime.errors import DataError as DataError
    from misgiving.runtime.errors import EngineError as EngineError
    from misgiving.runtime.errors import FailedPrecondition as FailedPrecondition
    from misgiving.runtime.errors import ImageError as ImageError
    from misgiving.runtime.errors import InvalidInput as InvalidInput
    from misgiving.runtime.errors import MisgivingError as MisgivingError
    from misgiving.runtime.errors import ParityError as ParityError
    from misgiving.runtime.errors import RegionError as RegionError
    from misgiving.runtime.errors import ResourceExhausted as ResourceExhausted
    from misgiving.runtime.estimator import Estimator as Estimator
    from misgiving.runtime.geometry import Region as Region
    from misgiving.runtime.keypoints import LSP as LSP
    from misgiving.runtime.keypoints import KeypointSet as KeypointSet
    from misgiving.runtime.labelset import LabelSet as LabelSet
    from misgiving.runtime.nouns import Answer as Answer
    from misgiving.runtime.nouns import Collection as Collection
    from misgiving.runtime.nouns import Decision as Decision
    from misgiving.runtime.nouns import Frame as Frame
    from misgiving.runtime.nouns import FrameFailure as FrameFailure
    from misgiving.runtime.nouns import ModelInfo as ModelInfo
    from misgiving.runtime.nouns import NamedThreshold as NamedThreshold
    from misgiving.runtime.nouns import Person as Person
    from misgiving.runtime.nouns import Position as Position
    from misgiving.runtime.nouns import Reason as Reason
    from misgiving.runtime.nouns import StreamSummary as StreamSummary
    from misgiving.runtime.nouns import Withheld as Withheld
    from misgiving.runtime.nouns import make_frame as make_frame
    from misgiving.runtime.persons.finding import Finder as Finder
    from misgiving.runtime.settings.model import Settings as Settings
    from misgiving.runtime.sources.recordings import Picture as Picture
    from misgiving.runtime.sources.recordings import Source as Source
    from misgiving.runtime.sources.recordings import open_source as open_source
    from misgiving.runtime.status import Quantiles as Quantiles
    from misgiving.runtime.status import ServerStatus as ServerStatus
    from misgiving.runtime.status import ShadowStatus as ShadowStatus
    from misgiving.runtime.status import SpoolStatus as SpoolStatus
    from misgiving.runtime.verbs.serve import run_server as run_server
    from misgiving.runtime.wire.collected import Coding as Coding
    from misgiving.runtime.wire.collected import KeptFrame as KeptFrame
    from misgiving.runtime.wire.collected import Redaction as Redaction
    from misgiving.runtime.wire.records import result_record as result_record
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "Bundle": "bundles.bundle",
            "Manifest": "bundles.manifest",
            "Client": "client",
            "Answer": "nouns",
            "Collection": "nouns",
            "Decision": "nouns",
            "Frame": "nouns",
            "FrameFailure": "nouns",
            "ModelInfo": "nouns",
            "NamedThreshold": "nouns",
            "Person": "nouns",
            "Position": "nouns",
            "Reason": "nouns",
            "StreamSummary": "nouns",
            "Withheld": "nouns",
            "make_frame": "nouns",
            "draw_result": "draw",
            "Engine": "engines.base",
            "Prediction": "engines.base",
            "Provider": "engines.base",
            "BundleError": "errors",
            "DataError": "errors",
            "EngineError": "errors",
            "FailedPrecondition": "errors",
            "ImageError": "errors",
            "InvalidInput": "errors",
            "MisgivingError": "errors",
            "ParityError": "errors",
            "RegionError": "errors",
            "ResourceExhausted": "errors",
            "Estimator": "estimator",
            "Finder": "persons.finding",
            "Region": "geometry",
            "LSP": "keypoints",
            "KeypointSet": "keypoints",
            "LabelSet": "labelset",
            "Coding": "wire.collected",
            "KeptFrame": "wire.collected",
            "Redaction": "wire.collected",
            "result_record": "wire.records",
            "pack_bundle": "bundles.releasing",
            "sign_bundle": "bundles.releasing",
            "Settings": "settings.model",
            "Quantiles": "status",
            "ServerStatus": "status",
            "ShadowStatus": "status",
            "SpoolStatus": "status",
            "run_server": "verbs.serve",
            "Picture": "sources.recordings",
            "Source": "sources.recordings",
            "open_source": "sources.recordings",
            "Trust": "bundles.trust",
            "new_key": "bundles.keys",
        },
    )
