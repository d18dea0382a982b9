"""ENAS (Pham et al., ICML 2018): a recurrent controller draws architectures, and learns by
REINFORCE from their scores.

With `supernet.sampler` "strategy" the supernet is trained on what the controller draws, and the
controller on validation batches in between; the sweep then goes on with that controller.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from nas_jax.spaces import Space
from nas_jax.strategies.base import Strategy, check_range


class Controller(nn.Module):
    """An LSTM that decides a Choice a step, and reads its last decision before the next.

    Attributes:
      sizes: number of subsets of each of the D Choices.
      hidden: units.
      temperature: divides the logits.
      bound: they are bound * tanh of that; 0: as they are.
    """

    sizes: tuple[int, ...]
    hidden: int
    temperature: float
    bound: float

    @nn.compact
    def __call__(
        self, choose: Callable[[int, jax.Array], jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Decisions int32 [D], their log probability [], entropy [] in nats along their path.

        `choose` is given the number of a Choice and its logits, and says the decision.
        """
        cell, decisions, log_p, entropy = nn.OptimizedLSTMCell(self.hidden), [], 0.0, 0.0
        carry, inputs = (jnp.zeros(self.hidden), jnp.zeros(self.hidden)), jnp.zeros(self.hidden)
        for d, size in enumerate(self.sizes):
            carry, output = cell(carry, inputs)
            # Zeros: the first architectures are uniform, as random search has them.
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
    """REINFORCE with a moving-average baseline and an entropy bonus; a tell is a step of Adam.

    The paper's learning rate is 0.00035, for many more steps than most sweeps have rounds.

    Args:
      space: to search in.
      hidden, temperature, bound: of `Controller`; the last two are the paper's.
      learning_rate: of Adam.
      entropy: weight of the entropy beside a score in [0, 1].
      baseline_decay: of the moving average of mean scores.

    State: parameters, Adam's state, float32 baseline, and how often it was told, int32.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, hidden=hidden)
    check_range(0, None, learning_rate=learning_rate, entropy=entropy, bound=bound)
    check_range(0, 1, baseline_decay=baseline_decay)
    check_range(1e-6, None, temperature=temperature)
    sizes = tuple(choice.num_subsets for choice in jax.tree.leaves(space.choices))
    controller = Controller(sizes, hidden, temperature, bound)
    adam = optax.adam(learning_rate)

    def init(key):
        params = controller.init(key, lambda d, logits: jnp.int32(0))["params"]
        return {
            "params": params,
            "adam": adam.init(params),
            "baseline": jnp.float32(0),
            "told": jnp.int32(0),
        }

    def draw(key, params):
        noise = jax.random.gumbel(key, (len(sizes), max(sizes)))  # of all Choices at once

        def choose(d, logits):
            return jnp.argmax(logits + noise[d, : sizes[d]]).astype(jnp.int32)

        return controller.apply({"params": params}, choose)[0]

    def ask(key, state, n):
        decisions = jax.vmap(draw, (0, None))(jax.random.split(key, n), state["params"])
        return space.from_decisions(decisions)

    def tell(state, archs, scores):
        scores = jnp.asarray(scores, jnp.float32)
        known = ~jnp.isnan(scores)
        count = jnp.maximum(jnp.sum(known), 1)
        mean = jnp.sum(jnp.where(known, scores, 0)) / count
        baseline = jnp.where(state["told"] == 0, mean, state["baseline"])
        weights = jnp.where(known, scores - baseline, 0) / count
        grads = jax.grad(loss)(state["params"], space.to_decisions(archs), weights)
        updates, moments = adam.update(grads, state["adam"], state["params"])
        new = {
            "params": optax.apply_updates(state["params"], updates),
            "adam": moments,
            "baseline": baseline_decay * baseline + (1 - baseline_decay) * mean,
            "told": state["told"] + 1,
        }
        return jax.tree.map(lambda a, b: jnp.where(jnp.any(known), a, b), new, state)

    def loss(params, decisions, weights):
        value, bonus = objective(params, controller, decisions, weights)
        return -(value + entropy * bonus)

    return Strategy(init, ask, tell)


def objective(params, controller, decisions, weights):
    """(sum of weights [n] times log probabilities of decisions [n, D], their mean entropy).

    The gradient of the first is REINFORCE's estimate of that of the expected score, where weights
    are (score - baseline) / n (Pham et al., section 2.2).
    """

    def of_one(decisions):
        return controller.apply({"params": params}, lambda d, logits: decisions[d])[1:]

    log_p, entropy = jax.vmap(of_one)(decisions)
    return jnp.sum(weights * log_p), jnp.mean(entropy)
