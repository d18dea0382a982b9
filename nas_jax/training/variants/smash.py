"""SMASH (Brock et al., 2017, "One-Shot Model Architecture Search through HyperNetworks").

A hypernetwork generates kernels of the supernet from the architecture (section 3.2), and both are
trained together, on one random architecture for each batch (algorithm 1). Candidates are ranked
with their generated weights. As published, the hypernetwork is a DenseNet that reads a fixed normal
embedding and an architecture-conditional tensor, and emits the kernels of 1x1 convolutions, place
by place; all others are learned freely and shared.

Choosing the variant also chooses how it is trained: see `nas_jax.config.recipes`.

Differs from the paper in:

- The search space is that of the config. Places are those of its Choices: (block, input) and
  (block, op) in cells, (edge, op) in NAS-Bench-201, (layer, op) in chains. Each knows the tensors
  that it reads and writes, the op, kernel sizes and width, as published, and the cell that it is
  in. An op may have several 1x1 kernels, so it also knows which of them it emits. There are no
  dilations, groups and gates to know.
- A place is there for every option, on or off. Published places are those of what is on, packed.
- The embedding is drawn once. The published code draws it anew for every batch, so that there a
  candidate has another value each time.
- A generated kernel is divided by its norm, as published, and then has the variance with which a
  kernel of a stand-alone network begins, not a norm of one.
- All kernels begin normal. The published ones begin orthogonal, of the same variance.
- The supernet has its batch norms everywhere, over ghost batches. The published one has them
  between blocks alone, over its batch of 50 images.
- Budgets, kernel sizes and numbers of paths do not grow over the training.
- Batch size, length, augmentation (mixup, too) and moving means of weights (`ema`) are the
  config's. The published code has neither mixup nor moving means.
- Adam adds its epsilon after the second moment's bias is corrected. PyTorch of that time (before
  0.4) added it before, so that early steps were shorter there.
- There are as many rows as the widest generated kernel needs, 8 at most. The published tensors
  always have 8.
"""

from nas_jax.oneshot.training_variant import OPTIONS, TrainingVariant, check_range
from nas_jax.spaces import Space
from nas_jax.spaces import params as params_lib
from nas_jax.training.variants import dense_hypernetwork, hypernetwork, places


def make(space: Space, *, basis: int = 0, hidden: int = 64) -> TrainingVariant:
    """Make a variant with generated weights.

    Args:
      space: the search space.
      basis: 0: the published hypernetwork. 2 or more: the light form, where all 1x1 kernels are
        sums of a basis of so many arrays (`hypernetwork.BasisNetwork`); with one array all
        architectures would share it.
      hidden: units of the light form's hidden layer, 1 or more.

    Raises: ValueError if an option is out of its range or has no use, if the space has no kernel to
      generate, or if its wirings lack an option.
    """
    check_range(1, None, hidden=hidden)
    if basis < 0 or basis == 1:
        raise ValueError(f"{OPTIONS}: basis={basis} must be 0, the published form, or 2 or more")
    if not basis and hidden != 64:
        raise ValueError(f"{OPTIONS}: hidden={hidden} is of the light form; give basis=4, too")
    shapes = params_lib.traced(space, space.example_size, **params_lib.REFERENCE).shapes
    pointwise = any(map(hypernetwork.is_pointwise, shapes.values()))
    if not basis:
        places.checked_wirings(space)
    if not (pointwise if basis else places.generated(shapes, space)):
        raise ValueError(
            "config.supernet.variant='smash' generates kernels of 1x1 convolutions, but no "
            f"{'layer' if basis else 'option'} of this {type(space).__name__} has any; choose "
            "another variant, or other ops"
        )

    def wrap(net):
        options = hypernetwork.options_of(net)
        if basis:
            return hypernetwork.BasisNetwork(**options, hidden=hidden, basis=basis)
        return dense_hypernetwork.DenseHyperNetwork(**options)

    return TrainingVariant(wrap=wrap, undecayed=() if basis else (dense_hypernetwork.SCOPE,))
