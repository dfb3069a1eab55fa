"""What is loaded, in words and numbers."""

from misgiving.runtime.answer.answerer import Model
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.flags.policy import FlagPolicy
from misgiving.runtime.nouns import ModelInfo, NamedThreshold


def describe(model: Model, policy: FlagPolicy) -> ModelInfo:
    """A model and how it flags."""
    manifest = model.bundle.manifest
    return ModelInfo(
        name=manifest.name,
        version=manifest.version,
        bundle_digest=model.bundle.digest,
        engine=str(model.engine.provider),
        input_height_px=manifest.crop.height,
        input_width_px=manifest.crop.width,
        keypoint_names=tuple(manifest.keypoints.names),
        skeleton=tuple((a, b) for a, b in manifest.keypoints.skeleton),
        signals=tuple(signal.name for signal in manifest.signals),
        threshold=policy.threshold,
        audit_rate=policy.audit_rate,
        failure_definition=str(manifest.failure),
        thresholds=tuple(
            NamedThreshold(name, value, _stated(model.bundle, name))
            for name, value in manifest.calibration.by_name().items()
        ),
    )


def _stated(bundle: Bundle, name: str) -> str:
    calibration = bundle.manifest.calibration
    promises = {one.name: str(one) for one in calibration.thresholds}
    if name in promises:
        return promises[name]
    return f"failure is more likely than not: {calibration.said(calibration.by_name()[name])}"
