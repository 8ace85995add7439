"""What a scale for each group of a channel's weights would gain: signal to rounding noise, beside what it would cost.

    python benchmarks/weight_groups.py CHECKPOINT

A runtime's integer kernels know one scale for each output channel, so a group's scale could only be a small whole
multiple of a part of the channel's, to be multiplied into the int8 codes at load: four bits a group. Printed for each
width: decibels for one scale a channel (as recipes have it) and for groups of 64, 32 and 16 weights, and the bits a
weight that the gain is worth (6.02 dB each), less what the multiples take. Layers with fewer than 64 weights a channel
are left out.
"""

import argparse
import math

import torch
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.models import load_model
from qface_toolkit.quantize.weights import Width

GROUPS, MULTIPLES, FEWEST = (64, 32, 16), 16, 64
DB_OF_A_BIT = 20 * math.log10(2)


def squared_error(rows: torch.Tensor, scales: torch.Tensor, largest: int) -> torch.Tensor:
    """Return the squared error of rounding each weight."""
    return ((rows / scales).round().clamp(-largest, largest) * scales - rows).pow(2)


def error_by_channel(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the squared error of each channel [C] with one scale."""
    width = Width(bits, compact=True)
    scales = width.scales(rows, torch.full((len(rows),), float(width.largest_code)))
    return squared_error(rows, scales[:, None], width.largest_code).sum(1)


def error_by_group(rows: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """Return the squared error of each channel [C] with the best multiple for each group."""
    largest = Width(bits).largest_code
    padded = nn.functional.pad(rows, (0, -rows.shape[1] % group))
    grouped, step = padded.reshape(len(rows), -1, group), rows.abs().amax(1) / largest / MULTIPLES
    errors = [
        squared_error(grouped, (step * multiple).clamp_min(1e-20)[:, None, None], largest).sum(2)
        for multiple in range(1, MULTIPLES + 1)
    ]
    return torch.stack(errors).amin(0).sum(1)


def decibels(errors: list[torch.Tensor], weights: list[torch.Tensor]) -> float:
    """Return the signal to noise ratio, every channel counting the same."""
    relative = [error / rows.pow(2).sum(1).clamp_min(1e-20) for error, rows in zip(errors, weights, strict=True)]
    return -10 * math.log10(float(torch.cat(relative).mean()))


def main() -> None:
    """Print the table for a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    model = load_model(parser.parse_args().checkpoint)
    network = canonicalise(model.network, model.spec.input_size)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    weights = [layer.weight.detach().flatten(1) for layer in layers]
    weights = [rows for rows in weights if rows.shape[1] >= FEWEST]
    print(f"{'bits':>4} {'channel':>9}" + "".join(f"{f'groups of {group}':>22}" for group in GROUPS))
    for bits in range(2, 8):
        base = decibels([error_by_channel(rows, bits) for rows in weights], weights)
        row = f"{bits:>4} {base:>6.1f} dB"
        for group in GROUPS:
            found = decibels([error_by_group(rows, bits, group) for rows in weights], weights)
            net = (found - base) / DB_OF_A_BIT - math.log2(MULTIPLES) / group
            row += f"{found:>10.1f} dB {net:>+5.2f} bit"
        print(row)


if __name__ == "__main__":
    main()
