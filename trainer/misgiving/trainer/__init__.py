"""The training part: data, networks, loss heads, active-learning cycles."""

from typing import TYPE_CHECKING

from misgiving.runtime.public import lazily

if TYPE_CHECKING:
    from misgiving.trainer.answers.scoring import Scores as Scores
    from misgiving.trainer.answers.scoring import score as score
    from misgiving.trainer.attaching import attach as attach
    from misgiving.trainer.checkpoint import Record as Record
    from misgiving.trainer.checkpoint import load_checkpoint as load_checkpoint
    from misgiving.trainer.config import AugmentConfig as AugmentConfig
    from misgiving.trainer.config import FitConfig as FitConfig
    from misgiving.trainer.config import HeadConfig as HeadConfig
    from misgiving.trainer.config import ModelConfig as ModelConfig
    from misgiving.trainer.config import Recipe as Recipe
    from misgiving.trainer.config import head_named as head_named
    from misgiving.trainer.cycle.recipe import CycleRecipe as CycleRecipe
    from misgiving.trainer.cycle.recipe import cycle_named as cycle_named
    from misgiving.trainer.cycle.record import CycleRun as CycleRun
    from misgiving.trainer.cycle.record import StageResult as StageResult
    from misgiving.trainer.cycle.report import write_cycle_report as write_cycle_report
    from misgiving.trainer.cycle.run import run_cycle as run_cycle
    from misgiving.trainer.cycle.summary import cycle_table as cycle_table
    from misgiving.trainer.data.base import Collected as Collected
    from misgiving.trainer.data.base import PoseSet as PoseSet
    from misgiving.trainer.data.base import Sample as Sample
    from misgiving.trainer.data.base import join as join
    from misgiving.trainer.data.mapping import keypoints_named as keypoints_named
    from misgiving.trainer.data.spec import open_data as open_data
    from misgiving.trainer.evaluation.bundle import Evaluation as Evaluation
    from misgiving.trainer.evaluation.bundle import Persons as Persons
    from misgiving.trainer.evaluation.bundle import evaluate as evaluate
    from misgiving.trainer.foreign.net_file import NetFile as NetFile
    from misgiving.trainer.foreign.net_file import read_net as read_net
    from misgiving.trainer.foreign_config import ForeignConfig as ForeignConfig
    from misgiving.trainer.foreign_config import ForeignInput as ForeignInput
    from misgiving.trainer.foreign_config import Tap as Tap
    from misgiving.trainer.measures.accuracy import Accuracy as Accuracy
    from misgiving.trainer.measures.bootstrap import Estimate as Estimate
    from misgiving.trainer.measures.calibration import Bin as Bin
    from misgiving.trainer.measures.calibration import Reliability as Reliability
    from misgiving.trainer.measures.joints import JointReport as JointReport
    from misgiving.trainer.measures.oks import AveragePrecision as AveragePrecision
    from misgiving.trainer.models.network import Network as Network
    from misgiving.trainer.net_config import DeepposeConfig as DeepposeConfig
    from misgiving.trainer.net_config import EdgeConfig as EdgeConfig
    from misgiving.trainer.net_config import HourglassConfig as HourglassConfig
    from misgiving.trainer.net_config import HrnetConfig as HrnetConfig
    from misgiving.trainer.net_config import LiteConfig as LiteConfig
    from misgiving.trainer.net_config import ResnetConfig as ResnetConfig
    from misgiving.trainer.net_config import TompsonConfig as TompsonConfig
    from misgiving.trainer.pool.on_ray import score_pool_on_ray as score_pool_on_ray
    from misgiving.trainer.pool.pool_scores import score_pool as score_pool
    from misgiving.trainer.pool.score_file import ScoreFile as ScoreFile
    from misgiving.trainer.pool.score_file import ScoreRecord as ScoreRecord
    from misgiving.trainer.pool.selection import Selection as Selection
    from misgiving.trainer.pool.selection import select as select
    from misgiving.trainer.recipes import recipe_named as recipe_named
    from misgiving.trainer.report import FailureReport as FailureReport
    from misgiving.trainer.report import ScoreRow as ScoreRow
    from misgiving.trainer.report import score_table as score_table
    from misgiving.trainer.suspects.finding import find_suspects as find_suspects
    from misgiving.trainer.suspects.judging import Suspects as Suspects
    from misgiving.trainer.suspects.judging import Suspicion as Suspicion
    from misgiving.trainer.theory.gamma import GammaLosses as GammaLosses
    from misgiving.trainer.theory.gamma import fit_gamma as fit_gamma
    from misgiving.trainer.training import Compute as Compute
    from misgiving.trainer.training import Trained as Trained
    from misgiving.trainer.training import train as train
else:
    __getattr__, __dir__, __all__ = lazily(
        __name__,
        {
            "Accuracy": "measures.accuracy",
            "Estimate": "measures.bootstrap",
            "Evaluation": "evaluation.bundle",
            "Persons": "evaluation.bundle",
            "evaluate": "evaluation.bundle",
            "JointReport": "measures.joints",
            "AveragePrecision": "measures.oks",
            "Bin": "measures.calibration",
            "Reliability": "measures.calibration",
            "FailureReport": "report",
            "ScoreRow": "report",
            "attach": "attaching",
            "Record": "checkpoint",
            "load_checkpoint": "checkpoint",
            "AugmentConfig": "config",
            "FitConfig": "config",
            "HeadConfig": "config",
            "ModelConfig": "config",
            "Recipe": "config",
            "head_named": "config",
            "CycleRecipe": "cycle.recipe",
            "cycle_named": "cycle.recipe",
            "CycleRun": "cycle.record",
            "StageResult": "cycle.record",
            "write_cycle_report": "cycle.report",
            "run_cycle": "cycle.run",
            "cycle_table": "cycle.summary",
            "Collected": "data.base",
            "PoseSet": "data.base",
            "Sample": "data.base",
            "join": "data.base",
            "keypoints_named": "data.mapping",
            "open_data": "data.spec",
            "NetFile": "foreign.net_file",
            "read_net": "foreign.net_file",
            "ForeignConfig": "foreign_config",
            "ForeignInput": "foreign_config",
            "Tap": "foreign_config",
            "Network": "models.network",
            "DeepposeConfig": "net_config",
            "EdgeConfig": "net_config",
            "HourglassConfig": "net_config",
            "HrnetConfig": "net_config",
            "LiteConfig": "net_config",
            "ResnetConfig": "net_config",
            "TompsonConfig": "net_config",
            "score_pool_on_ray": "pool.on_ray",
            "score_pool": "pool.pool_scores",
            "recipe_named": "recipes",
            "ScoreFile": "pool.score_file",
            "ScoreRecord": "pool.score_file",
            "score_table": "report",
            "Scores": "answers.scoring",
            "score": "answers.scoring",
            "Selection": "pool.selection",
            "select": "pool.selection",
            "find_suspects": "suspects.finding",
            "Suspects": "suspects.judging",
            "Suspicion": "suspects.judging",
            "GammaLosses": "theory.gamma",
            "fit_gamma": "theory.gamma",
            "Compute": "training",
            "Trained": "training",
            "train": "training",
        },
    )
