"""ENAS (Pham et al., ICML 2018): a recurrent controller draws architectures.

The controller learns by REINFORCE from their values. With `supernet.sampler` "strategy" the
supernet is trained on architectures that the controller draws, and the controller is trained on
validation batches in between. The sweep then goes on with that controller. The defaults are those
that work in short searches; `configs/enas.py` has the paper's values and schedule.

Differs from the paper in:

- A Choice is one decision with its own layers; the paper's controller attends to earlier nodes.
- The supernet draws an architecture for each ghost batch; the paper's for each batch. With
  `supernet.train.ghost_batch_size` equal to `batch_size` it is the same.
- All architectures of a round are evaluated on one validation batch; in the published code each
  of the ten has its own.
- L2 falls on the parameters that an architecture uses, unless `supernet.train.l2_unused` is set.
  The published code's falls on all; `configs/enas.py` does so for CIFAR-10.
- The published code gives a bound of 5.0 for gradients of the supernet, but then applies those that
  are not clipped. Nothing is clipped here, unless `supernet.train.clip_norm` is set.
- The first logits are zero, unless `init_range` is given.
- Nothing rewards or punishes a number of skips, as the paper does in its macro space.
- Where the paper is silent (decay and order of the baseline, form of Adam, architectures of a
  step) options have the values of its published code.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from nas_jax import naming
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
    reward_entropy: float = 0.0,
    baseline: str = "round",
    adam: str = "usual",
    init_range: float = 0.0,
) -> Strategy:
    """Make REINFORCE with a moving-average baseline; a tell is a step of Adam.

    The paper's learning rate is 0.00035, for many more steps than most sweeps have rounds.

    Entropy keeps the controller from settling too soon. With `entropy` the gradient of the entropy
    of its decisions is added to REINFORCE's. With `reward_entropy` the entropy of an architecture's
    decisions is added to its value, as in the paper: `reward = value + reward_entropy * entropy`,
    without a gradient of its own.

    The baseline is subtracted from the rewards. "round": it begins with the first round's mean, and
    moves after a round by the mean of that. "each": it begins with 0, and moves by every reward in
    turn, before that reward is weighed, as in the published code. So a reward is weighed by
    `baseline_decay` times its difference from the baseline before.

    Args:
      space: to search in.
      hidden, temperature, bound: of `Controller`; the last two are the paper's.
      learning_rate: of Adam.
      entropy: weight of the bonus; the entropy is in nats, values are in [0, 1].
      baseline_decay: of the moving average; published: 0.99.
      reward_entropy: weight of the entropy in the reward; the paper's is 0.1.
      baseline: "round" or "each".
      adam: "usual", or "published": without a mean of gradients, and with a large epsilon.
      init_range: the first parameters are uniform within plus and minus this, the paper's 0.1; 0:
        the logits are zero, so that the first architectures are uniform.

    State: parameters, Adam's state, float32 baseline, and the number of tells, int32.

    Raises: ValueError if an option is out of its range.
    """
    check_range(1, None, hidden=hidden)
    check_range(0, None, learning_rate=learning_rate, entropy=entropy, bound=bound)
    check_range(0, None, reward_entropy=reward_entropy, init_range=init_range)
    check_range(0, 1, baseline_decay=baseline_decay)
    check_range(1e-6, None, temperature=temperature)
    naming.check("config.sweep.options: baseline", baseline, BASELINES)
    naming.check("config.sweep.options: adam", adam, ADAMS)
    sizes = tuple(choice.num_subsets for choice in jax.tree.leaves(space.choices))
    controller = Controller(sizes, hidden, temperature, bound)
    weigh = functools.partial(BASELINES[baseline], decay=baseline_decay)
    adam = ADAMS[adam](learning_rate)
    enas = _Enas(space, controller, adam, weigh, entropy, reward_entropy, init_range)
    return Strategy(enas.init, enas.ask, enas.tell)


@dataclasses.dataclass(frozen=True)
class _Enas:
    """The functions of the strategy; `make` explains the fields."""

    space: Space
    controller: Controller
    adam: optax.GradientTransformation
    weigh: Callable
    entropy: float
    reward_entropy: float
    init_range: float

    def init(self, key):
        params = self.controller.init(key, lambda d, logits: jnp.int32(0))["params"]
        if self.init_range:
            leaves, form = jax.tree.flatten(params)
            keys = jax.random.split(key, len(leaves))
            span = {"minval": -self.init_range, "maxval": self.init_range}
            drawn = [jax.random.uniform(k, x.shape, **span) for k, x in zip(keys, leaves)]
            params = form.unflatten(drawn)
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
        decisions = self.space.to_decisions(archs)
        rewards = self._rewards(state["params"], decisions, jnp.asarray(scores, jnp.float32))
        is_score = ~jnp.isnan(rewards)
        count = jnp.maximum(jnp.sum(is_score), 1)
        advantages, baseline = self.weigh(rewards, state["baseline"], state["told"] == 0)
        weights = jnp.where(is_score, advantages, 0) / count
        grads = jax.grad(self._loss)(state["params"], decisions, weights)
        updates, moments = self.adam.update(grads, state["adam"], state["params"])
        new = {
            "params": optax.apply_updates(state["params"], updates),
            "adam": moments,
            "baseline": baseline,
            "told": state["told"] + 1,
        }
        return jax.tree.map(lambda a, b: jnp.where(jnp.any(is_score), a, b), new, state)

    def _rewards(self, params, decisions, scores):
        """Add the entropy of each architecture's decisions to its value, float32 [n]."""
        if not self.reward_entropy:
            return scores
        entropies = jax.vmap(lambda row: _of_decisions(params, self.controller, row)[1])(decisions)
        return scores + self.reward_entropy * entropies

    def _loss(self, params, decisions, weights):
        value, bonus = objective(params, self.controller, decisions, weights)
        return -(value + self.entropy * bonus)


def objective(params, controller, decisions, weights):
    """Return the sum of weights times log probabilities of decisions, and their mean entropy.

    With weights (reward - baseline) / n, the gradient of the sum is REINFORCE's estimate of the
    gradient of the expected reward (Pham et al., section 2.2).

    Args:
      params: of the controller.
      controller: see `Controller`.
      decisions: int32 [n, D].
      weights: float32 [n].
    """

    of_each = jax.vmap(functools.partial(_of_decisions, params, controller))
    log_p, entropy = of_each(decisions)
    return jnp.sum(weights * log_p), jnp.mean(entropy)


def _of_decisions(params, controller, decisions):
    """Return the log probability [] and the entropy [] of the decisions int32 [D] of one."""
    return controller.apply({"params": params}, lambda d, logits: decisions[d])[1:]


# -- baselines: (rewards [n], NaN for a failure; baseline []; whether it is the first round; decay)
# -> (advantages [n], next baseline []) ------------------------------------------------------------


def _of_round(rewards, baseline, is_first, *, decay):
    """Weigh a round by the baseline so far, then move that by the round's mean."""
    is_reward = ~jnp.isnan(rewards)
    count = jnp.maximum(jnp.sum(is_reward), 1)
    mean = jnp.sum(jnp.where(is_reward, rewards, 0)) / count
    baseline = jnp.where(is_first, mean, baseline)
    return rewards - baseline, decay * baseline + (1 - decay) * mean


def _of_each(rewards, baseline, is_first, *, decay):
    """Move the baseline by each reward in turn, and weigh that by the baseline it made."""

    def move(baseline, reward):
        moved = baseline - (1 - decay) * (baseline - reward)
        baseline = jnp.where(jnp.isnan(reward), baseline, moved)
        return baseline, reward - baseline

    baseline, advantages = jax.lax.scan(move, baseline, rewards)
    return advantages, baseline


BASELINES = {"round": _of_round, "each": _of_each}


# -- forms of Adam: (learning rate) -> the transformation of gradients -----------------------------


def _published_adam(learning_rate):
    """Make TensorFlow's Adam with a beta1 of 0 and an epsilon of 0.001, as the published code has.

    v is the moving mean of squared gradients g. Step t adds
    `-learning_rate * sqrt(1 - 0.999^t) * g / (sqrt(v) + 0.001)`. The usual form corrects v before
    epsilon is added, by which its first steps are up to 32 times as long where g is small.
    """
    decay = 0.999
    return optax.chain(
        optax.scale_by_rms(decay, eps=0.001, eps_in_sqrt=False),
        optax.scale_by_schedule(lambda done: -learning_rate * jnp.sqrt(1 - decay ** (done + 1))),
    )


ADAMS = {"usual": optax.adam, "published": _published_adam}
