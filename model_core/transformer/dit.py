"""The diffusion transformer: patchify, blocks with adaLN-Zero, unpatchify (Peebles & Xie 2022, arXiv 2212.09748).

Shape legend: b batch, c channels, n tokens, d hidden size, m caption tokens. Timesteps are one a sample, or one a latent frame,
for frames noised to different levels (Chen 2024, arXiv 2407.01392); frames that a patch joins share one.
"""

import math
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model_core.diffusion.condition import Condition
from model_core.errors import BadDataError, BadModelError
from model_core.transformer.blocks import AdaLNZeroBlock, FinalLayer
from model_core.transformer.config import TransformerConfig
from model_core.transformer.embedders import LabelEmbedder, TextEmbedder, TextTokensEmbedder, TimestepEmbedder
from model_core.transformer.initialise import initialise
from model_core.transformer.layout import TokenLayout
from model_core.transformer.modulations import Modulations, ModulationTable, TextMemory
from model_core.transformer.patchify import patchify, unpatchify
from model_core.transformer.positions import grid_positions
from model_core.transformer.rope import grid_rotations


class DiT(nn.Module):
    """Predicts noise or velocity from noised latents, a timestep, a label and a caption.

    A prediction is `denoise` of the latents under `modulations`, which depend on timestep and condition alone. The condition of a
    block is the sum of the embeddings of timestep, label and pooled caption; a caption's tokens enter by cross attention.

    Args:
        config: The architecture.
        generator: Source of the initial weights; the global one if not given.
    """

    def __init__(self, config: TransformerConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self._checkpointing = False
        width, volume = config.hidden_size, math.prod(config.patch_size)
        self.x_embedder = nn.Linear(config.in_channels * volume, width)
        self.t_embedder = TimestepEmbedder(config.frequency_dim, width)
        self.y_embedder = LabelEmbedder(config.num_labels, width)
        self.text_embedder = TextEmbedder(config.text_dim, width) if config.reads_pooled_text else None
        self.text_tokens = TextTokensEmbedder(config.text_dim, width) if config.reads_text_states else None
        first_skip = config.depth - config.depth // 2 if config.long_skips else config.depth
        self.blocks = nn.ModuleList(AdaLNZeroBlock(config, long_skip=place >= first_skip) for place in range(config.depth))
        self.shared_modulation = (
            nn.Sequential(nn.SiLU(), nn.Linear(width, config.modulations_per_block * width))
            if config.modulation == "shared"
            else None
        )
        self.final_layer = FinalLayer(config, config.out_channels * volume)
        initialise(self, generator)

    def forward(
        self,
        x_t: Float[Tensor, "b c *sides"],
        timestep: Float[Tensor, "b *frames"],
        labels: Int[Tensor, "b"],
        text: Float[Tensor, "b dim"],
        text_mask: Bool[Tensor, "b"],
        text_states: Float[Tensor, "b m text_dim"] | None = None,
        text_states_mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b out *sides"]:
        """Returns the prediction, of the shape of ``x_t``, with twice its channels where the variance is learned.

        Args:
            x_t: Noised latents [b c frames height width], of any size that the patch divides.
            timestep: On the scale of 0 to 1,000; of each sample, or of each of its latent frames. Of frames that a patch joins,
                the first one's holds.
            labels: Label indices, ``num_labels`` for none.
            text: Pooled caption embeddings.
            text_mask: False where there is no caption.
            text_states: Captions' token states, for cross attention.
            text_states_mask: False at places without a caption token; all are taken if not given.

        Raises:
            BadModelError: Latents that are not 5-D, have other channels, or do not divide into patches.
            BadDataError: Cross attention without token states, or with ones of another width; timesteps for other frames.
        """
        return self.denoise(x_t, self.modulations(timestep, labels, text, text_mask, text_states, text_states_mask))

    def predict(self, x_t: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Returns `forward` with the condition in one value.

        Raises:
            BadModelError: As `forward`.
            BadDataError: As `forward`; a label out of range, numbers of latents, timesteps and conditions that differ, or frames
                of one patch with different timesteps.
        """
        self._require_condition(condition)
        self._require_shared_times(timestep)
        if not len(x_t) == len(timestep) == len(condition):
            raise BadDataError(
                f"{len(x_t)} latents, {len(timestep)} timesteps, {len(condition)} conditions: they must be as many"
            )
        prediction: Tensor = self(
            x_t,
            timestep,
            condition.labels,
            condition.text,
            condition.text_mask,
            condition.text_states,
            condition.text_states_mask,
        )
        return prediction

    def modulations(
        self,
        timestep: Float[Tensor, "b *frames"],
        labels: Int[Tensor, "b"],
        text: Float[Tensor, "b dim"],
        text_mask: Bool[Tensor, "b"],
        text_states: Float[Tensor, "b m text_dim"] | None = None,
        text_states_mask: Bool[Tensor, "b m"] | None = None,
    ) -> Modulations:
        """Returns all that depends on timestep and condition alone; arguments as of `forward`."""
        c = self._condition_vector(self._embedded_times(timestep), labels, text, text_mask, each_frame=timestep.ndim > 1)
        return self._modulations(c, self._text_memory(text_mask, text_states, text_states_mask))

    def modulation_table(self, timesteps: Float[Tensor, "steps *frames"], condition: Condition) -> ModulationTable:
        """Returns the modulations of a batch at each of a sampler's timesteps.

        Args:
            timesteps: On the scale of 0 to 1,000; each, or each row of one a latent frame, holds for the whole batch.
            condition: One condition a sample.

        Raises:
            BadDataError: A condition that `predict` refuses.
        """
        self._require_condition(condition)
        self._require_shared_times(timesteps)
        times = self._embedded_times(timesteps)[:, None]  # [steps 1 *t d]
        each_frame = timesteps.ndim > 1
        c = self._condition_vector(times, condition.labels, condition.text, condition.text_mask, each_frame=each_frame)
        c = c.flatten(0, 1)  # [steps b, *t d]
        memory = self._text_memory(condition.text_mask, condition.text_states, condition.text_states_mask)
        return ModulationTable(num_samples=len(condition), modulations=self._modulations(c, memory))

    def denoise(self, x_t: Float[Tensor, "b c *sides"], modulations: Modulations) -> Float[Tensor, "b out *sides"]:
        """Returns the prediction for noised latents under modulations.

        Raises:
            BadModelError: Latents that are not 5-D, have other channels, or do not divide into patches.
            BadDataError: As many modulations as latents were not given, or modulations of other frames.
        """
        if x_t.ndim != 5:
            raise BadModelError(f"latents have shape {list(x_t.shape)}, expected [batch, channels, frames, height, width]")
        grid = self.config.grid((x_t.shape[1], x_t.shape[2], x_t.shape[3], x_t.shape[4]))
        if len(x_t) != len(modulations):
            raise BadDataError(f"{len(x_t)} latents and {len(modulations)} modulations: they must be as many")
        if modulations.times_each not in {None, grid[0]}:
            raise BadDataError(
                f"timesteps are given for {modulations.times_each} patches along time, the latents have {grid[0]}",
                hint="give one a sample, or one a latent frame",
            )
        patches = self.transform(patchify(x_t, self.config.patch_size), modulations, TokenLayout.batch(len(x_t), grid))
        return unpatchify(patches, self.config.patch_size, grid)

    def transform(
        self, patches: Float[Tensor, "b n patch"], modulations: Modulations, layout: TokenLayout
    ) -> Float[Tensor, "b n out"]:
        """Returns predicted patches for noised ones, in the layout given: a batch of one grid, or packed samples of several."""
        x = self.x_embedder(patches)  # [b n d]
        if self.config.positions == "sinusoid":
            x = x + _of_all_runs([grid_positions(run.grid, self.config.hidden_size, x.device) for run in layout.runs], layout).to(
                x
            )
        rotations = self._rotations(layout, x.device)
        memory = modulations.text
        skips: list[Tensor] = []
        for place, block in enumerate(self._layers):
            args = (
                x,
                modulations.blocks[place],
                layout,
                rotations,
                memory and memory.keys_values[place],
                memory and memory.mask,
                skips.pop() if block.skip is not None else None,
            )
            if self._checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(*args)
            if self.config.long_skips and place < self.config.depth // 2:
                skips.append(x)
        return self.final_layer(x, modulations.final, layout)  # type: ignore[no-any-return]  # modules return Any

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Keeps only each block's input for the backward pass and computes the rest again there (Chen 2016, arXiv 1604.06174).

        Gradients stay the same; memory for activations falls by about nine tenths, a training step costs about a third more.
        """
        self._checkpointing = enabled

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def _layers(self) -> list[AdaLNZeroBlock]:
        return cast("list[AdaLNZeroBlock]", list(self.blocks))

    def _embedded_times(self, timestep: Float[Tensor, "b *frames"]) -> Float[Tensor, "b *t d"]:
        times = timestep if timestep.ndim == 1 else timestep[:, :: self.config.patch_size[0]]
        return self.t_embedder(times)  # type: ignore[no-any-return]  # modules return Any

    def _condition_vector(
        self,
        times: Float[Tensor, "... d"],
        labels: Int[Tensor, "b"],
        text: Float[Tensor, "b dim"],
        text_mask: Bool[Tensor, "b"],
        *,
        each_frame: bool,
    ) -> Float[Tensor, "... d"]:
        def over_frames(x: Tensor) -> Tensor:
            return x.unsqueeze(1) if each_frame else x

        c: Tensor = times + over_frames(self.y_embedder(labels))
        return c if self.text_embedder is None else c + over_frames(self.text_embedder(text, text_mask))

    def _modulations(self, c: Float[Tensor, "s *t d"], text: TextMemory | None) -> Modulations:
        shared = None if self.shared_modulation is None else self.shared_modulation(c)
        return Modulations(
            blocks=tuple(block.modulation(c, shared) for block in self._layers), final=self.final_layer.modulation(c), text=text
        )

    def _text_memory(
        self,
        text_mask: Bool[Tensor, "b"],
        states: Float[Tensor, "b m text_dim"] | None,
        states_mask: Bool[Tensor, "b m"] | None,
    ) -> TextMemory | None:
        """Returns captions as cross attention reads them; a sample that ``text_mask`` leaves without a caption has none."""
        if self.text_tokens is None:
            return None
        if states is None or states.shape[-1] != self.config.text_dim:
            found = "none" if states is None else f"ones of width {states.shape[-1]}"
            raise BadDataError(
                f"the transformer attends to caption tokens of width {self.config.text_dim}, it got {found}",
                hint="give the condition text_states and text_states_mask",
            )
        mask = text_mask[:, None].expand(states.shape[:2]) if states_mask is None else states_mask & text_mask[:, None]
        tokens, mask = self.text_tokens(states, mask)
        return TextMemory(keys_values=tuple(block.keys_values(tokens) for block in self._layers), mask=mask)

    def _rotations(self, layout: TokenLayout, device: torch.device) -> Float[Tensor, "n 1 p 2"] | None:
        if self.config.positions != "rope":
            return None
        found = [grid_rotations(run.grid, self.config.head_dim, self.config.rope_grid, device) for run in layout.runs]
        return _of_all_runs(found, layout)

    def _require_condition(self, condition: Condition) -> None:
        """Refuses labels that the embedding has no row for; on an accelerator they would end the process."""
        labels = condition.labels
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= self.config.num_labels:
            raise BadDataError(
                f"labels {int(labels.min())} to {int(labels.max())} are out of range",
                hint=f"the model knows {self.config.num_labels} labels, counted from 0",
            )

    def _require_shared_times(self, timestep: Float[Tensor, "b *frames"]) -> None:
        """Refuses frames with different timesteps where a patch joins them."""
        joined = self.config.patch_size[0]
        if timestep.ndim == 1 or joined == 1:
            return
        if timestep.shape[1] % joined or not torch.equal(timestep, timestep[:, ::joined].repeat_interleave(joined, dim=1)):
            raise BadDataError(
                f"frames of a patch have different timesteps, or there are {timestep.shape[1]} timesteps a sample",
                hint=f"the network joins {joined} frames in a patch: give those one timestep",
            )


def _of_all_runs(tables: list[Tensor], layout: TokenLayout) -> Tensor:
    """Returns tables of a grid's tokens, one a run, as one for the whole sequence: packed samples repeat theirs."""
    if not layout.packed:
        return tables[0]
    return torch.cat([table.repeat(run.count, *[1] * (table.ndim - 1)) for table, run in zip(tables, layout.runs, strict=True)])
