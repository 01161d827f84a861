"""Working Papers: eleven papers of 12 August 2021 as software, each claim measured again."""

from importlib.metadata import version

__version__ = version("workingpapers")
