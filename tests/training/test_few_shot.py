"""Few-shot supernets: parts of the space, their training, what each evaluates, what is refused."""

import jax
import numpy as np
import pytest

from nas_jax import plan
from nas_jax.candidates import evaluators
from nas_jax.training import few_shot, restoration, supernet
from tests import trainings
from tests.configs import tiny, tiny_macro

SPLIT = {"supernet.split.choices": ("layer1",), "supernet.split.share": 0.25}


def test_parts_cover_the_space_once():
    """Two of three layers with three ops each are split: nine parts."""
    built = trainings.built_with(
        tiny_macro.get_config(), {"supernet.split.choices": ("layer2", "layer0")}
    )
    run = trainings.run_of(*built, "unused")
    parts = few_shot.parts(run)
    places = few_shot.places(run.space, ("layer2", "layer0"))
    assert places == (2, 0)
    assert [part.name for part in parts[:2]] == ["layer2_0_layer0_0", "layer2_0_layer0_1"]
    archs = run.space.from_strs(["000", "012", "100", "122"])
    has = np.stack([few_shot.has(part.masks, places, archs) for part in parts])
    assert has.shape == (9, 4)
    assert has.argmax(0).tolist() == [0, 6, 1, 7]  # 3 x last layer + first layer
    assert np.all(has.sum(0) == 1)


def test_masks_keep_to_a_part():
    built = trainings.built_with(tiny_macro.get_config(), SPLIT)
    run = trainings.run_of(*built, "unused")
    part, sampler = few_shot.parts(run)[2], supernet.sampler(run)
    within = few_shot.Within(sampler, few_shot.places(run.space, ("layer1",)))
    given = jax.random.key(0), 3, np.arange(4, dtype=np.int32)
    drawn, kept = sampler(*given, (), None), within(*given, part.masks, None)
    assert np.all(kept[1] == part.masks[0])
    trainings.assert_equal((drawn[0], drawn[2]), (kept[0], kept[2]))
    assert not np.array_equal(drawn[1], kept[1])


def test_the_error_of_a_cell_names_its_choices():
    config = tiny.get_config()
    fields = {**trainings.SMALL, "supernet.split.choices": ("cell/block9/ops",)}
    with pytest.raises(ValueError, match=r"split\.choices='cell/block9/ops' is none of .*ops"):
        trainings.built_with(config, fields)


@pytest.mark.system
def test_each_part_evaluates_its_architectures(tmp_path):
    """Parts begin with the whole's weights, end with others, and each asks its own."""
    built = trainings.built_with(tiny_macro.get_config(), SPLIT)
    run = trainings.run_of(*built, tmp_path)
    assert "then 3 parts, 10 steps each" in plan.of(run, "supernet")[0].what
    supernet.train(run)
    whole = restoration.whole(run, tmp_path)[0]
    weights = restoration.restore(run, tmp_path)
    assert [each.step for each in weights] == [10, 10, 10]
    assert whole.step == 40
    texts = ["000", "012", "100", "120", "201", "210", "221", "222"]
    archs = run.space.from_strs(texts)
    values = evaluators.make(run, tmp_path).evaluator(archs)
    assert few_shot.pick(run, weights, "021").params is weights[2].params
    plain = trainings.run_of(*trainings.built_with(tiny_macro.get_config(), {}), tmp_path)
    alone = np.stack([evaluators.of_weights(plain, tmp_path, [w])(archs) for w in weights])
    which = [int(text[1]) for text in texts]
    np.testing.assert_array_equal(values, alone[which, np.arange(8)])
    assert len(np.unique(alone, axis=0)) > 1
    # What a part never has on is not trained.
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), whole.params, weights[0].params)
    assert any(jax.tree.leaves(moved))
    assert not all(jax.tree.leaves(moved))
    lines = [path.read_text() for path in sorted(tmp_path.rglob("metrics.jsonl"))]
    assert len(lines) == 4
    supernet.train(run)  # finished work is not done again
    assert [path.read_text() for path in sorted(tmp_path.rglob("metrics.jsonl"))] == lines


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"supernet.split.choices": ("layer7",)}, r"'layer7' is none of layer0, layer1, layer2"),
        ({"supernet.split.choices": ("layer0", "layer0")}, r"names a Choice twice"),
        ({"supernet.split.share": 0.0}, r"share=0\.0 must be above 0"),
        ({"sweep.score": "kl"}, r"sweep\.score='kl' does not go with supernet\.split"),
        ({"sweep.bn": "running"}, r"sweep\.bn='running' does not go with"),
        (
            {"supernet.sampler": "strategy", "sweep.strategy": "evolution"},
            r"sampler='strategy' does not go with",
        ),
        (
            {"sweep.num_checkpoints": 2, "supernet.train.checkpoint_every": 10},
            r"a part of 10 steps .* saves 1; lower",
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        trainings.built_with(tiny_macro.get_config(), SPLIT | fields)
