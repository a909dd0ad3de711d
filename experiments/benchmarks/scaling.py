"""How the cost of a fit grows with the samples and with the inputs; ourselves against ourselves."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from experiments.benchmarks.harness import Comparison, Row

__all__ = ["run"]

# A fresh process for every size: the peak of its memory is that of this fit.
_FIT = """
import resource, sys, time, warnings
import numpy as np
from bcd_implicit import ImplicitRegressor
from experiments.teacher import draw

warnings.simplefilter("ignore")
m, p, outputs = (int(value) for value in sys.argv[1:4])
alpha = sys.argv[4] if sys.argv[4] == "auto" else float(sys.argv[4])
small = draw(1, n_samples=300, n_inputs=20, n_outputs=outputs)
ImplicitRegressor(20, alpha=0.01, max_iter=5, random_state=0).fit(small.U, small.Y)
sample = draw(0, noise=0.1, n_samples=m, n_inputs=p, n_outputs=outputs, n_fresh=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
model = ImplicitRegressor(20, alpha=alpha, fit_feedthrough=False, random_state=0, n_jobs=2)
model.fit(sample.U, sample.Y)
seconds = time.perf_counter() - began
grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
data = sample.U.nbytes + sample.Y.nbytes
wrong = int((model.support_ != sample.support).sum())
print(seconds, 1 + grown / data, wrong, model.n_iter_)
"""


def run(*, full: bool) -> Iterator[Comparison]:
    """Fit growing data; the exponent is that of the least squares line in log-log."""
    sizes = [10**3, 10**4, 10**5, 10**6] if full else [10**3, 10**4, 10**5]
    yield _growth("samples", [(m, 50, 1, "0.003") for m in sizes], sizes, 1.05, repeats=3)
    widths = [10**2, 10**3, 10**4, 10**5] if full else [10**2, 10**3]
    yield _growth("inputs", [(1000, p, 100, "auto") for p in widths], widths, 1.1, repeats=1)


def _growth(
    what: str,
    fits: list[tuple[int, int, int, str]],
    sizes: list[int],
    limit: float,
    *,
    repeats: int,
) -> Comparison:
    rows, notes = [], []
    for (m, p, outputs, alpha), size in zip(fits, sizes, strict=True):
        seconds, memory, wrong, steps, error = [], 0.0, 0, 0, ""
        for _ in range(repeats if size < max(sizes) else 1):
            words = [sys.executable, "-c", _FIT, str(m), str(p), str(outputs), alpha]
            fit = subprocess.run(words, capture_output=True, text=True)
            if fit.returncode:  # killed for its memory, say: the other sizes stand
                last = fit.stderr.splitlines()[-1:]
                error = f"exit status {fit.returncode} {' '.join(last)}"
                break
            out = fit.stdout.split()
            seconds.append(float(out[0]))
            memory, wrong, steps = max(memory, float(out[1])), int(out[2]), int(out[3])
        rows.append(Row(f"{size:,} {what}", seconds, memory, error))
        if not error:
            notes.append(f"{size:,}: {steps} iterations, {wrong} wrong inputs")
    done = [(size, row.median) for size, row in zip(sizes, rows, strict=True) if not row.error]
    slope = float("nan")
    if len(done) > 1:
        x, y = np.log(done).T
        slope = float(np.polyfit(x, y, 1)[0])
    return Comparison(
        f"cost against {what}",
        f"exponent {slope:.2f}, limit {limit}; peak memory in units of the data, limit 3",
        "memory / data",
        rows,
        note="; ".join(notes),
    )
