"""All parts of a study in a minute, for tests."""

from tests.configs import tiny


def get_config():
    """Two supernets, ten networks of each sample."""
    c = tiny.get_config()
    c.supernet.train.keep_checkpoints = 4
    c.sweep.kl.num_images = 32
    c.sweep.kl.num_references = 2
    c.retrain.short.train.num_steps = 10
    c.retrain.short.groups.random = 10
    c.retrain.short.groups.stratified = 10
    c.retrain.final.train.num_steps = 10
    c.retrain.final.num_seeds = 2
    c.retrain.final.groups.top = 2
    c.retrain.final.groups.random = 2
    c.study.parts = ("supernets", "ranking", "divergence", "final", "removal")
    c.study.variants = (
        ("ramp",),
        ("untied", ("space.tied", False), ("network.relu_before_bn", True)),
    )
    c.study.course = 3
    return c
