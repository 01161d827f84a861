"""Learning rates for the dense model of `reproduce demix --scale laptop`, on development text.

    python tools/choose_demix_learning_rate.py [RATE ...]

The best one stands in `demix/experiment.py` and is used for all models. The seed is none of those
that are reported; each rate takes about a minute.
"""

import sys
import tempfile
from dataclasses import replace
from statistics import fmean

from workingpapers.demix import measurements
from workingpapers.demix.experiment import SETTINGS
from workingpapers.demix.training import train

SEED = 777


def main(rates: list[float]) -> None:
    setting = measurements.Setting(**SETTINGS["laptop"])
    with tempfile.TemporaryDirectory() as folder:
        for rate in rates:
            task = measurements.ModelTask(
                replace(setting, learning_rate=rate), "dense", SEED, folder
            )
            known, _ = measurements._corpora(task.setting, folder)
            corpora = list(known.domains.values())
            model = measurements._untrained(task, known, list(known.domains))
            train(model, corpora, measurements._training(task), rows=setting.rows)
            found = [
                measurements._perplexity(
                    measurements._logprobs(model, one, task.setting, split="dev")
                )
                for one in corpora
            ]
            print(f"{rate:g}: mean perplexity of development text {fmean(found):.2f}", flush=True)


if __name__ == "__main__":
    main([float(rate) for rate in sys.argv[1:]] or [8e-3, 16e-3, 24e-3, 32e-3])
