"""The eleven papers of 12 August 2021, as data, in the order of the post that listed them."""

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import Literal


@dataclass(frozen=True)
class Paper:
    """One paper: what it is, and where its system lives in this package."""

    system: str
    """Name of the subpackage and of the extra that installs its dependencies."""
    title: str
    authors: tuple[str, ...]
    arxiv: str
    summary: str
    """What the system does for its user, in one line."""

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def built(self) -> bool:
        """Whether this release holds the system."""
        spec = importlib.util.find_spec(f"workingpapers.{self.system}")
        # A folder without __init__.py (left over caches) has a spec, but no origin.
        return spec is not None and spec.origin is not None


PAPERS: tuple[Paper, ...] = (
    Paper(
        "posthoc",
        "Post-hoc Interpretability for Neural NLP: A Survey",
        ("Andreas Madsen", "Siva Reddy", "Sarath Chandar"),
        "2108.04840",
        "Explain a text model's answers with 19 post-hoc methods.",
    ),
    Paper(
        "demix",
        "DEMix Layers: Disentangling Domains for Modular Language Modeling",
        (
            "Suchin Gururangan",
            "Mike Lewis",
            "Ari Holtzman",
            "Noah A. Smith",
            "Luke Zettlemoyer",
        ),
        "2108.05036",
        "Train language models whose domain experts are mixed, added and removed.",
    ),
    Paper(
        "uap",
        "Simple black-box universal adversarial attacks on medical image classification "
        "based on deep neural networks",
        ("Kazuki Koga", "Kazuhiro Takemoto"),
        "2108.04979",
        "Audit your image classifier against one perturbation that fools it everywhere.",
    ),
    Paper(
        "surfaces",
        "Differentiable Surface Rendering via Non-Differentiable Sampling",
        (
            "Forrester Cole",
            "Kyle Genova",
            "Avneesh Sud",
            "Daniel Vlasic",
            "Zhoutong Zhang",
        ),
        "2108.04886",
        "Render meshes and implicit surfaces with gradients, occlusion edges included.",
    ),
    Paper(
        "opengames",
        "Composing games into complex institutions",
        ("Seth Frey", "Jules Hedges", "Joshua Tan", "Philipp Zahn"),
        "2108.05318",
        "Compose games into institutions and check which behaviour they sustain.",
    ),
    Paper(
        "infilling",
        "Variable-Length Music Score Infilling via XLNet and Musically Specialized "
        "Positional Encoding",
        ("Chin-Jui Chang", "Chun-Yi Lee", "Yi-Hsuan Yang"),
        "2108.05064",
        "Fill a gap in a score with as many notes as it needs.",
    ),
    Paper(
        "embert",
        "Embodied BERT: A Transformer Model for Embodied, Language-guided Visual Task Completion",
        (
            "Alessandro Suglia",
            "Qiaozi Gao",
            "Jesse Thomason",
            "Govind Thattai",
            "Gaurav Sukhatme",
        ),
        "2108.04927",
        "Train an agent that does household tasks told in words.",
    ),
    Paper(
        "flame_nerf",
        "FLAME-in-NeRF: Neural control of Radiance Fields for Free View Face Animation",
        ("ShahRukh Athar", "Zhixin Shu", "Dimitris Samaras"),
        "2108.04913",
        "Turn a short portrait video into a face you can pose and animate.",
    ),
    Paper(
        "lens",
        "Logic Explained Networks",
        (
            "Gabriele Ciravegna",
            "Pietro Barbiero",
            "Francesco Giannini",
            "Marco Gori",
            "Pietro Lió",
            "Marco Maggini",
            "Stefano Melacci",
        ),
        "2108.05149",
        "Classify a table and read the network's decisions as logic formulas.",
    ),
    Paper(
        "hamiltonians",
        "Optimal learning of quantum Hamiltonians from high-temperature Gibbs states",
        ("Jeongwan Haah", "Robin Kothari", "Ewin Tang"),
        "2108.04842",
        "Learn a Hamiltonian's coefficients from measured thermal states.",
    ),
    Paper(
        "adamra",
        "Adaptive Multi-Resolution Attention with Linear Complexity",
        ("Yao Zhang", "Yunpu Ma", "Thomas Seidl", "Volker Tresp"),
        "2108.04962",
        "Attend over long sequences at several resolutions in linear time.",
    ),
)


def paper(system: str) -> Paper:
    """The paper whose system is called `system`; KeyError if there is none."""
    for entry in PAPERS:
        if entry.system == system:
            return entry
    raise KeyError(system)


def built_papers() -> tuple[Paper, ...]:
    """The papers whose systems this release holds, in the order of the post."""
    return tuple(entry for entry in PAPERS if entry.built)


def open_system(system: str, door: Literal["api", "cli", "experiment"] = "api") -> ModuleType:
    """Import one of a system's three doors: its public API, its verbs or its experiment."""
    entry = paper(system)
    suffix = "" if door == "api" else f".{door}"
    return importlib.import_module(f"workingpapers.{entry.system}{suffix}")
