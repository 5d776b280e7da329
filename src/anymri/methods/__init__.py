"""One file per published method. To add one: write the file and a line here."""

from __future__ import annotations

from dataclasses import dataclass

from anymri.errors import UsageError
from anymri.methods.adamm import AdaMMConfig
from anymri.methods.ccsd import CCSDConfig
from anymri.methods.dropout_unet import DropoutUNetConfig
from anymri.methods.method import MethodConfig
from anymri.methods.retrieval import RetrievalConfig
from anymri.methods.shaspec import ShaSpecConfig
from anymri.methods.synthesis import SynthesisConfig
from anymri.methods.uhved import UHVEDConfig


@dataclass(frozen=True)
class Entry:
    """What ``anymri list methods`` shows of a method.

    Attributes:
        name: The word on the command line.
        config: Its settings.
        category: What kind of strategy it is, in the words of the AdaMM survey.
        paper: Where it comes from.
    """

    name: str
    config: type[MethodConfig]
    category: str
    paper: str


METHODS = (
    Entry("adamm", AdaMMConfig, "knowledge distillation", "arXiv 2509.15017"),
    Entry("ccsd", CCSDConfig, "knowledge distillation", "arXiv 2511.14599"),
    Entry("dropout_unet", DropoutUNetConfig, "robustness enhancement", "arXiv 2602.20218; Ruffle et al. 2023"),
    Entry("retrieval", RetrievalConfig, "sample retrieval", "after M3Care, KDD 2022"),
    Entry("shaspec", ShaSpecConfig, "feature generation", "arXiv 2307.14126"),
    Entry("synthesis", SynthesisConfig, "data generation", "Chartsias et al. 2018, doi:10.1109/TMI.2017.2764326"),
    Entry("uhved", UHVEDConfig, "multi-task learning", "arXiv 1907.11150"),
)


def method_named(name: str) -> Entry:
    """Return a method by name.

    Raises:
        UsageError: If there is no such method.
    """
    for entry in METHODS:
        if entry.name == name:
            return entry
    raise UsageError(f"method '{name}' is unknown; expected one of {', '.join(e.name for e in METHODS)}")
