"""The joining part: fuses pose net and loss head into one graph, checks it, runs the demo."""

from typing import TYPE_CHECKING

from misgiving.runtime.public import lazily

if TYPE_CHECKING:
    from misgiving.export.bundling import export_bundle as export_bundle
    from misgiving.export.calibrating import Targets as Targets
    from misgiving.export.calibrating import calibrate_bundle as calibrate_bundle
    from misgiving.export.config import ExportConfig as ExportConfig
    from misgiving.export.module import net_of_module as net_of_module
    from misgiving.export.prelabelling import prelabel as prelabel
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "ExportConfig": "config",
            "export_bundle": "bundling",
            "Targets": "calibrating",
            "calibrate_bundle": "calibrating",
            "net_of_module": "module",
            "prelabel": "prelabelling",
        },
    )
