import torch

from benchmarks.clip_spaces import spacetime_pca
from model_core.codec.batches import clips_to_bytes


def test_clips_come_back_from_principal_components_and_scales_are_evened_out_by_half() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.randn(40, 3, 2, 2, 2, generator=generator)  # smooth clips, which few components hold
    clips = torch.nn.functional.interpolate(corners, size=(8, 16, 16), mode="trilinear", align_corners=True).clamp(-1, 1)
    space = spacetime_pca(clips, list(range(30)))
    assert space.latents.shape == (40, 96, 2, 2, 2)
    error = (torch.from_numpy(space.decode(space.latents)).float() - clips_to_bytes(clips).float()).abs()
    assert float(error.mean()) < 2
    spread = space.latents.flatten(2).std(dim=(0, 2))
    first, tenth = spread[0], spread[9]
    flat = clips.unfold(2, 4, 4).unfold(3, 8, 8).unfold(4, 8, 8).permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(0, 3)
    deviations = torch.linalg.eigvalsh(torch.cov(flat.T)).flip(0).sqrt()
    assert torch.allclose((first / tenth) ** 2, deviations[0] / deviations[9], rtol=0.2)
