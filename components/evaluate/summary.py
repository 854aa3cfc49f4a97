"""What an evaluation found, in one line."""

from collections.abc import Mapping


def summarise(metrics: Mapping[str, float], num_samples: int) -> str:
    """Returns the figures that matter most, each beside what the best or the worst of models would get."""
    parts = [
        f"{num_samples} samples",
        f"KID {metrics['kid']:.3g} (real {metrics['kid_real']:.2g}, noise {metrics['kid_noise']:.2g})",
    ]
    if "category_accuracy" in metrics:
        parts.append(
            f"category accuracy {metrics['category_accuracy']:.0%} "
            f"(chance {metrics['category_accuracy_chance']:.0%}, real {metrics['category_accuracy_real']:.0%})"
        )
    if "utility_ratio" in metrics:
        parts.append(
            f"a probe taught by samples is worth {metrics['utility_ratio']:.0%} of one taught by real data "
            f"({metrics['utility_ratio_low']:.0%} to {metrics['utility_ratio_high']:.0%})"
        )
    if "recall" in metrics:
        parts.append(
            f"precision {metrics['precision']:.0%} (real {metrics['precision_real']:.0%}), "
            f"recall {metrics['recall']:.0%} (real {metrics['recall_real']:.0%})"
        )
    for name, words in (("motion_direction", "motion direction right"), ("caption_retrieval", "captions find their clip")):
        if name in metrics:
            parts.append(
                f"{words} {metrics[name]:.0%} (chance {metrics[f'{name}_chance']:.0%}, real {metrics[f'{name}_real']:.0%})"
            )
    parts.append(f"memorised {metrics['memorised_share']:.1%} (real {metrics['memorised_share_real']:.1%})")
    return ", ".join(parts)
