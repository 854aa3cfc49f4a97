import torch

from model_core.sampling.seeds import image_seed, noise_for_seeds, noise_source


def test_seeds_of_pictures_differ_and_are_exact_in_json():
    seeds = {image_seed(seed, index) for seed in range(20) for index in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert image_seed(0, 0) == image_seed(0, 0)


def test_noise_of_a_picture_depends_on_its_own_seed_alone():
    together = noise_for_seeds([3, 4, 5], (2, 1, 4, 4))
    assert torch.equal(together[1:2], noise_for_seeds([4], (2, 1, 4, 4)))
    assert noise_for_seeds([], (2, 1, 4, 4)).shape == (0, 2, 1, 4, 4)


def test_a_source_draws_on_from_each_samples_own_seed():
    draw, alone = noise_source([3, 4, 5], (2, 1, 4, 4)), noise_source([4], (2, 1, 4, 4))
    first, second = draw(), draw()
    assert torch.equal(first, noise_for_seeds([3, 4, 5], (2, 1, 4, 4)))
    assert not torch.equal(first, second)
    assert torch.equal(first[1:2], alone())
    assert torch.equal(second[1:2], alone())
    assert noise_source([], (2, 1, 4, 4))().shape == (0, 2, 1, 4, 4)
