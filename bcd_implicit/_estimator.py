"""What the estimators share: parameters, the fit and attributes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from bcd_implicit._group_numbers import whole_groups
from bcd_implicit._identity import fit_identity
from bcd_implicit._random import generator_of
from bcd_implicit._typing import IntArray
from bcd_implicit._validation import ValidatingEstimator
from bcd_implicit.activations import Activation, get_activation
from bcd_implicit.checkpoint import Checkpoint
from bcd_implicit.encoded import Encoded
from bcd_implicit.exceptions import InterruptedFitWarning
from bcd_implicit.fitting import FittedModel, Settings, fit_model
from bcd_implicit.groups import group_codes
from bcd_implicit.model import ImplicitModel
from bcd_implicit.monitor import Callback, Monitor, Record
from bcd_implicit.pattern import Pattern
from bcd_implicit.prepared import Prepared
from bcd_implicit.problem import TrainingProblem, group_norms
from bcd_implicit.solvers.group_ball_problem import exponent

__all__ = ["ImplicitEstimator"]

Array = NDArray[np.float64]


class ImplicitEstimator(ValidatingEstimator):
    """Parameters, fitting and attributes that regression and classification share."""

    _coded: ClassVar[tuple[str, ...]] = ("n_features_in_", "feature_names_in_")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_states": [Interval(Integral, 1, None, closed="left")],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "l2": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "kappa": [Interval(Real, 0, 1, closed="neither")],
        "activation": [str, Activation],
        "pattern": [None, Pattern],
        "fit_feedthrough": ["boolean"],
        "fit_intercept": ["boolean"],
        "standardize": ["boolean"],
        "groups": [None, "array-like", HasMethods(["get_feature_names_out"])],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "checkpoint": [None, str, PathLike],
        "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
        "resume": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "callback": [None, callable],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_states: int = 20,
        *,
        alpha: float | str = "auto",
        l2: float | str = "auto",
        kappa: float = 0.95,
        activation: str | Activation = "relu",
        pattern: Pattern | None = None,
        fit_feedthrough: bool = True,
        fit_intercept: bool = True,
        standardize: bool = True,
        groups: Any = None,
        max_iter: int = 500,
        tol: float = 1e-4,
        n_init: int = 1,
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        resume: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        callback: Callback | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_states = n_states
        self.alpha = alpha
        self.l2 = l2
        self.kappa = kappa
        self.activation = activation
        self.pattern = pattern
        self.fit_feedthrough = fit_feedthrough
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.groups = groups
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.resume = resume
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.callback = callback
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like of shape (m,), for regression also (m, q)
            For classification labels of at least two classes.
        sample_weight : array-like of shape (m,), optional
            Nonnegative; a weight of k counts like k equal rows.

        Returns
        -------
        Self
            The estimator.
        """
        self._validate_params()
        with self._all_or_nothing():
            self._fit(self._encode(X, y, sample_weight))
        self._warn()
        return self

    def _fit(self, data: Encoded) -> None:
        """Fit to checked data and set the attributes, all of them or none."""
        start = self._warm_model(data.n_inputs, data.n_outputs)
        prepared = self._prepared(data, warm=start is not None)
        settings = Settings(
            automatic=self.alpha == "auto" and start is None,
            l2=None if self.l2 == "auto" else float(self.l2),
            max_iter=int(self.max_iter),
            n_init=int(self.n_init),
            tol=float(self.tol),
        )
        monitor = Monitor(int(self.verbose), self.callback)
        rng = generator_of(self.random_state)
        if self.checkpoint is not None:
            monitor.journal = Checkpoint(
                self.checkpoint,
                int(self.checkpoint_every),
                monitor,
                rng,
                fit_identity(self, prepared, data, start),
                resume=bool(self.resume),
            )
        elif self.resume:
            raise ValueError("resume=True needs the checkpoint to resume from; got checkpoint=None")
        fitted = fit_model(prepared, settings, rng, monitor, start=start)
        self._set_attributes(fitted, monitor.history)

    def _encode(self, X: Any, y: Any, sample_weight: Any) -> Encoded:
        """Check data, code the targets as the loss wants them, and set what `_coded` names."""
        raise NotImplementedError

    def _prepared(self, data: Encoded, *, warm: bool = False) -> Prepared:
        """Return the data in the units of the training, and the problem at the given strengths."""
        p = data.n_inputs
        codes = group_codes(self.groups, p)
        alpha, l2, group_weights = self._strengths(p, codes, warm)
        problem = TrainingProblem(
            loss=data.loss,
            activation=get_activation(self.activation),
            n_states=int(self.n_states),
            alpha=alpha,
            l2=l2,
            kappa=float(self.kappa),
            group_weights=group_weights,
            feedthrough=bool(self.fit_feedthrough),
            intercept=bool(self.fit_intercept),
            **self._masks(),
        )
        return data.prepared(
            problem,
            standardize=bool(self.standardize),
            n_threads=effective_n_jobs(self.n_jobs),
            groups=codes,
        )

    def _masks(self) -> dict[str, Any]:
        """Return the pattern as the training problem takes it."""
        if self.pattern is None:
            return {}
        if self.pattern.n_states != self.n_states:
            raise ValueError(
                f"pattern must be of n_states={self.n_states} states; got {self.pattern.n_states}"
            )
        return {
            "pattern": self.pattern.A,
            "input_states": self.pattern.input_states,
            "output_states": self.pattern.output_states,
        }

    def _strengths(self, p: int, codes: IntArray | None, warm: bool) -> tuple[float, float, Array]:
        """Strengths and group weights to start from; those of the last fit if it is continued."""
        weights = np.ones(p)
        if codes is not None:
            weights = np.sqrt(np.bincount(codes)[codes])
        if self.alpha == "auto":
            if not warm:
                return 0.0, 0.0, weights
            left_out = np.isinf(self.group_weights_)
            if codes is not None:  # with other groups than before: whole ones enter and leave
                left_out = np.bincount(codes, ~left_out)[codes] == 0.0
            l2 = self.l2_ if self.l2 == "auto" else float(self.l2)
            return self.alpha_, l2, np.where(left_out, np.inf, weights)
        alpha = float(self.alpha)
        return alpha, alpha if self.l2 == "auto" else float(self.l2), weights

    def _warm_model(self, p: int, q: int) -> ImplicitModel | None:
        """Return the model to continue from, if that is asked for and there is one."""
        if not self.warm_start or not hasattr(self, "model_"):
            return None
        have = (self.model_.n_states, self.model_.n_inputs, self.model_.n_outputs)
        if have != (self.n_states, p, q):
            raise ValueError(
                "warm_start=True needs the states, inputs and outputs of the last fit, "
                f"{have}; got n_states={self.n_states} and data for {(p, q)}"
            )
        return self.model_

    def _set_attributes(self, fitted: FittedModel, history: list[Record]) -> None:
        parameters, model = fitted.parameters, fitted.model
        p = model.n_inputs
        codes = group_codes(self.groups, p)
        self.groups_ = np.arange(p) if codes is None else codes
        self.model_ = model
        self.A_, self.B_, self.C_, self.D_ = model.A, model.B, model.C, model.D
        self.state_intercept_, self.intercept_ = model.b, model.d
        # no square overflows or vanishes, whatever the units of inputs that are not standardised
        unit = exponent(parameters.groups)
        B, D = np.ldexp(parameters.B, -unit), np.ldexp(parameters.D, -unit)
        norms = np.sqrt(np.bincount(self.groups_, group_norms(B, D) ** 2))
        self.feature_importances_ = np.ldexp(norms, unit)[self.groups_]
        self.support_ = whole_groups(self.groups_, model.active_inputs)
        self.contraction_factor_ = model.contraction_factor
        self.alpha_, self.l2_ = fitted.alpha, fitted.l2
        self.group_weights_ = fitted.group_weights
        self.path_: Any = fitted.path
        self.objective_ = fitted.objective
        self.n_iter_ = fitted.n_iter + 1
        self._outcome = fitted.outcome
        self.history_ = history

    def _warn(self) -> None:
        """Say once what kept the fit from its end; only after the estimator is complete."""
        if self._outcome.interrupted:
            warnings.warn(
                "the fit was interrupted; the estimator holds the best model so far, with "
                f"objective {self.objective_:.6g}",
                InterruptedFitWarning,
                stacklevel=3,
            )
        elif not self._outcome.converged:
            fell = "they are too few to tell how the objective falls"
            decrease = self._outcome.decrease
            if np.isfinite(decrease):
                fell = f"the objective still fell by {decrease:.2g} of itself an iteration"
            warnings.warn(
                f"the fit stopped after max_iter={self.max_iter} iterations with a residual of "
                f"{self._outcome.residual:.2g}; {fell}, tol={self.tol:g}. Increase max_iter, or "
                "tol, or the strengths alpha and l2",
                ConvergenceWarning,
                stacklevel=3,
            )

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Leave the estimator as it was if the fit raises."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            # what scikit-learn needs to end the callbacks of a fit that failed
            running = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
            kept = {name: vars(self)[name] for name in running if name in vars(self)}
            self.__dict__ = before | kept
            raise
