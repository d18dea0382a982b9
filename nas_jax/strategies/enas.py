"""ENAS (Pham et al., ICML 2018): a recurrent controller draws architectures.

The controller learns by REINFORCE from their scores. With `supernet.sampler` "strategy" the
supernet is trained on architectures that the controller draws, and the controller is trained on
validation batches in between. The sweep then goes on with that controller.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy, check_range


class Controller(nn.Module):
    """An LSTM that decides one Choice a step; its input is the decision before.

    Attributes:
      sizes: number of subsets of each of the D Choices.
      hidden: units of the LSTM.
      temperature: divides the logits.
      bound: logits become bound * tanh(logits) then; 0 leaves them unchanged.
    """

    sizes: tuple[int, ...]
    hidden: int
    temperature: float
    bound: float

    @nn.compact
    def __call__(
        self, choose: Callable[[int, jax.Array], jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return decisions int32 [D], their log probability [] and entropy [] in nats.

        The entropy is the sum over the steps, given the decisions before each.

        Args:
          choose: (number of a Choice, its logits) -> the decision.
        """
        cell, decisions, log_p, entropy = nn.OptimizedLSTMCell(self.hidden), [], 0.0, 0.0
        carry, inputs = (jnp.zeros(self.hidden), jnp.zeros(self.hidden)), jnp.zeros(self.hidden)
        for d, size in enumerate(self.sizes):
            carry, output = cell(carry, inputs)
            # Zeros make the first architectures uniform, as in random search.
            logits = nn.Dense(size, kernel_init=nn.initializers.zeros)(output) / self.temperature
            logits = self.bound * jnp.tanh(logits) if self.bound else logits
            log_ps = jax.nn.log_softmax(logits)
            decisions.append(choose(d, logits))
            log_p += log_ps[decisions[-1]]
            entropy -= jnp.sum(jnp.exp(log_ps) * log_ps)
            inputs = nn.Embed(size, self.hidden)(decisions[-1])
        return jnp.stack(decisions), log_p, entropy


def make(
    space: Space,
    *,
    hidden: int = 64,
    learning_rate: float = 0.01,
    entropy: float = 0.0001,
    baseline_decay: float = 0.95,
    temperature: float = 5.0,
    bound: float = 2.5,
) -> Strategy:
    """Make REINFORCE with a moving-average baseline and an entropy bonus; a tell is a step of Adam.

    The paper's learning rate is 0.00035, for many more steps than most sweeps have rounds.

    Args:
      space: to search in.
      hidden, temperature, bound: of `Controller`; the last two are the paper's.
      learning_rate: of Adam.
      entropy: weight of the entropy in nats; scores are in [0, 1].
      baseline_decay: of the moving average of mean scores.

    State: parameters, Adam's state, float32 baseline, and the number of tells, int32.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, hidden=hidden)
    check_range(0, None, learning_rate=learning_rate, entropy=entropy, bound=bound)
    check_range(0, 1, baseline_decay=baseline_decay)
    check_range(1e-6, None, temperature=temperature)
    sizes = tuple(choice.num_subsets for choice in jax.tree.leaves(space.choices))
    controller = Controller(sizes, hidden, temperature, bound)
    enas = _Enas(space, controller, optax.adam(learning_rate), entropy, baseline_decay)
    return Strategy(enas.init, enas.ask, enas.tell)


@dataclasses.dataclass(frozen=True)
class _Enas:
    """The functions of the strategy; `make` explains the fields."""

    space: Space
    controller: Controller
    adam: optax.GradientTransformation
    entropy: float
    baseline_decay: float

    def init(self, key):
        params = self.controller.init(key, lambda d, logits: jnp.int32(0))["params"]
        return {
            "params": params,
            "adam": self.adam.init(params),
            "baseline": jnp.float32(0),
            "told": jnp.int32(0),
        }

    def ask(self, key, state, n):
        decisions = jax.vmap(self._draw, (0, None))(jax.random.split(key, n), state["params"])
        return self.space.from_decisions(decisions)

    def _draw(self, key, params):
        """Draw the decisions int32 [D] of one architecture."""
        sizes = self.controller.sizes
        noise = jax.random.gumbel(key, (len(sizes), max(sizes)))  # one draw for all Choices

        def choose(d, logits):
            return jnp.argmax(logits + noise[d, : sizes[d]]).astype(jnp.int32)

        return self.controller.apply({"params": params}, choose)[0]

    def tell(self, state, archs, scores):
        scores = jnp.asarray(scores, jnp.float32)
        is_score = ~jnp.isnan(scores)
        count = jnp.maximum(jnp.sum(is_score), 1)
        mean = jnp.sum(jnp.where(is_score, scores, 0)) / count
        baseline = jnp.where(state["told"] == 0, mean, state["baseline"])
        weights = jnp.where(is_score, scores - baseline, 0) / count
        decisions = self.space.to_decisions(archs)
        grads = jax.grad(self._loss)(state["params"], decisions, weights)
        updates, moments = self.adam.update(grads, state["adam"], state["params"])
        new = {
            "params": optax.apply_updates(state["params"], updates),
            "adam": moments,
            "baseline": self.baseline_decay * baseline + (1 - self.baseline_decay) * mean,
            "told": state["told"] + 1,
        }
        return jax.tree.map(lambda a, b: jnp.where(jnp.any(is_score), a, b), new, state)

    def _loss(self, params, decisions, weights):
        value, bonus = objective(params, self.controller, decisions, weights)
        return -(value + self.entropy * bonus)


def objective(params, controller, decisions, weights):
    """Return the sum of weights times log probabilities of decisions, and their mean entropy.

    With weights (score - baseline) / n, the gradient of the sum is REINFORCE's estimate of the
    gradient of the expected score (Pham et al., section 2.2).

    Args:
      params: of the controller.
      controller: see `Controller`.
      decisions: int32 [n, D].
      weights: float32 [n].
    """

    def of_one(decisions):
        return controller.apply({"params": params}, lambda d, logits: decisions[d])[1:]

    log_p, entropy = jax.vmap(of_one)(decisions)
    return jnp.sum(weights * log_p), jnp.mean(entropy)
