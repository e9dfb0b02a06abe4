"""nbannot: annotate texts with language models against your own codebook, and learn how far to trust the labels.

The public names are below; each is imported only when it is used, so that ``import nbannot`` and
``%load_ext nbannot`` stay light.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nbannot.tools.moved import install

# For editors and type checkers, which cannot follow names that are imported when they are used; a test holds this
# block equal to the table below.
if TYPE_CHECKING:
    from nbannot import displays as displays
    from nbannot.asking.prompts import add_prompt as add_prompt
    from nbannot.asking.prompts import prompt_types as prompt_types
    from nbannot.comparing.coder import load_coder as load_coder
    from nbannot.comparing.coder import load_outputs as load_outputs
    from nbannot.comparing.comparison import compare as compare
    from nbannot.comparing.made_up import check_guess as check_guess
    from nbannot.comparing.made_up import made_up_coder as made_up_coder
    from nbannot.comparing.reliability import agreement as agreement
    from nbannot.comparing.rescoring.rescore import rescore as rescore
    from nbannot.comparing.stability import determinism as determinism
    from nbannot.comparing.stability import flip_rate as flip_rate
    from nbannot.desk.adjudication import adjudicate as adjudicate
    from nbannot.desk.assignment import assign as assign
    from nbannot.desk.class_page import class_page as class_page
    from nbannot.desk.consensus import consensus as consensus
    from nbannot.desk.opening import code as code
    from nbannot.desk.recheck import recheck as recheck
    from nbannot.desk.sample import sample as sample
    from nbannot.doors.form.configure import configure as configure
    from nbannot.doors.form.questions_form import build_codebook as build_codebook
    from nbannot.errors import NbannotError as NbannotError
    from nbannot.exchange.reading_projects import read_project as read_project
    from nbannot.exchange.writing_projects import write_project as write_project
    from nbannot.inference.acceptance import acceptance_sample as acceptance_sample
    from nbannot.inference.alternative_annotator import alt_test as alt_test
    from nbannot.inference.calibration import calibration as calibration
    from nbannot.inference.multiverse import multiverse as multiverse
    from nbannot.inference.planning import how_many as how_many
    from nbannot.inference.prevalence import prevalence as prevalence
    from nbannot.inference.regression import regress as regress
    from nbannot.inference.tipping_point import tipping_point as tipping_point
    from nbannot.inference.total_error import total_error as total_error
    from nbannot.inference.understudy import understudy as understudy
    from nbannot.record.batches import batches as batches
    from nbannot.record.loading import load_run as load_run
    from nbannot.record.run import Run as Run
    from nbannot.record.views import joined as joined
    from nbannot.record.views import metrics as metrics
    from nbannot.record.views import pivot as pivot
    from nbannot.record.views import runs as runs
    from nbannot.record.workbook import spreadsheet as spreadsheet
    from nbannot.running.plan import plan as plan
    from nbannot.running.run import run as run
    from nbannot.running.sweep import sweep as sweep
    from nbannot.study.codebook import Codebook as Codebook
    from nbannot.study.config import RunConfig as RunConfig
    from nbannot.study.corpus_sources import corpus as corpus
    from nbannot.study.personal_data import personal_data as personal_data
    from nbannot.study.questions import checkbox as checkbox
    from nbannot.study.questions import dropdown as dropdown
    from nbannot.study.questions import likert as likert
    from nbannot.study.questions import multiselect as multiselect
    from nbannot.study.questions import span as span
    from nbannot.study.questions import textbox as textbox
    from nbannot.study.task import Task as Task
    from nbannot.study.task_sources import bundled_tasks as bundled_tasks
    from nbannot.study.task_sources import load_task as load_task

__version__ = "0.1.0"

install()  # import paths from before the rooms

_PUBLIC = {
    "acceptance_sample": "inference.acceptance",
    "add_prompt": "asking.prompts",
    "adjudicate": "desk.adjudication",
    "agreement": "comparing.reliability",
    "alt_test": "inference.alternative_annotator",
    "assign": "desk.assignment",
    "batches": "record.batches",
    "build_codebook": "doors.form.questions_form",
    "bundled_tasks": "study.task_sources",
    "calibration": "inference.calibration",
    "checkbox": "study.questions",
    "class_page": "desk.class_page",
    "code": "desk.opening",
    "Codebook": "study.codebook",
    "compare": "comparing.comparison",
    "configure": "doors.form.configure",
    "consensus": "desk.consensus",
    "corpus": "study.corpus_sources",
    "determinism": "comparing.stability",
    "dropdown": "study.questions",
    "flip_rate": "comparing.stability",
    "how_many": "inference.planning",
    "joined": "record.views",
    "likert": "study.questions",
    "multiselect": "study.questions",
    "check_guess": "comparing.made_up",
    "load_coder": "comparing.coder",
    "made_up_coder": "comparing.made_up",
    "load_outputs": "comparing.coder",
    "load_run": "record.loading",
    "load_task": "study.task_sources",
    "metrics": "record.views",
    "multiverse": "inference.multiverse",
    "NbannotError": "errors",
    "pivot": "record.views",
    "personal_data": "study.personal_data",
    "plan": "running.plan",
    "prevalence": "inference.prevalence",
    "prompt_types": "asking.prompts",
    "recheck": "desk.recheck",
    "read_project": "exchange.reading_projects",
    "regress": "inference.regression",
    "rescore": "comparing.rescoring.rescore",
    "Run": "record.run",
    "run": "running.run",
    "RunConfig": "study.config",
    "runs": "record.views",
    "sample": "desk.sample",
    "span": "study.questions",
    "spreadsheet": "record.workbook",
    "sweep": "running.sweep",
    "Task": "study.task",
    "textbox": "study.questions",
    "tipping_point": "inference.tipping_point",
    "total_error": "inference.total_error",
    "understudy": "inference.understudy",
    "write_project": "exchange.writing_projects",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC and name != "displays":
        hint = ""
        if not name.startswith("_"):  # Python itself asks for such names
            from nbannot.errors import nearest

            hint = nearest(name.lower(), _PUBLIC)
        raise AttributeError(f"module 'nbannot' has no attribute '{name}'{hint}")
    from nbannot.tools.imports import load

    room = f"nbannot.{_PUBLIC.get(name, name)}"
    load(room)
    value = getattr(sys.modules[room], name) if name in _PUBLIC else sys.modules[room]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted((*__all__, "displays"))


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics: ``%load_ext nbannot``."""
    from nbannot.doors import magic

    magic.load_ipython_extension(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away again: ``%unload_ext nbannot``."""
    from nbannot.doors import magic

    magic.unload_ipython_extension(ipython)
