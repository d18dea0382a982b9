"""Training-free proxies: values of networks with initial weights, batched over masks.

    name           what is read                         defined by
    grad_norm      gradient of the loss by each kernel  Abdelfattah et al., ICLR 2021
    snip           weights times gradients              Lee et al., ICLR 2019
    synflow        flow of ones through |weights|       Tanaka et al., NeurIPS 2020
    jacob_cov      correlations of image gradients      Mellor et al., arXiv 2006.04647, version 1
    naswot         codes of ReLUs                       Mellor et al., ICML 2021
    zen            change of features, batch norms      Lin et al., ICCV 2021
    zico           gradients over batches               Li et al., ICLR 2023
    expressivity   entropy of blocks' outputs           Lee and Ham, CVPR 2024 (AZ-NAS)
    progressivity  growth of that entropy               the same
    trainability   spectral norms of blocks' Jacobians  the same

Differs from the papers in:

- Candidates share the initial weights of the supernet, He's; the papers draw anew for each network,
  by the default of their library.
- ZiCo's two batches, and the batch of the others, are of `sweep.proxy.num_images` in all.
- Zen: batch norm's epsilon is added to a variance, as a node that nothing reaches has none; one
  draw where the paper takes means over several (`sweep.proxy.num_draws`).
- SynFlow: its log; no pruning follows, and batch norm is left out, as in zero-cost NAS.
- AZ-NAS: blocks are the stem and each cell, reduction or layer, of which a space shows outputs.

The networks are those of the masked supernet, whose options that are off do not count: the value
is that of the stand-alone network with the same weights. The fourth proxy of AZ-NAS, complexity, is
the number of multiply-adds, the evaluator "flops".
"""

from nas_jax.proxies import activations, base, blocks, gradients
from nas_jax.proxies.base import Batches, Proxy, of_each

__all__ = ["PROXIES", "Batches", "Proxy", "of_each"]

_of_blocks = {"blocks": True, "gradients": False}
PROXIES: dict[str, Proxy] = {
    "grad_norm": Proxy(gradients.gradient_norm, base.as_measured),
    "snip": Proxy(gradients.snip, base.as_measured),
    "synflow": Proxy(gradients.synflow, gradients.held, bn="off"),
    "jacob_cov": Proxy(gradients.image_gradients, gradients.spread),
    "naswot": Proxy(activations.agreement, activations.log_determinant, gradients=False),
    "zen": Proxy(activations.Zen(), base.as_measured, weights="normal", gradients=False),
    "zico": Proxy(gradients.zico, base.as_measured, num_batches=2),
    "expressivity": Proxy(blocks.entropies, blocks.expressivity, **_of_blocks),
    "progressivity": Proxy(blocks.entropies, blocks.progressivity, **_of_blocks),
    "trainability": Proxy(blocks.largest_singular_values, blocks.trainability, blocks=True),
}
