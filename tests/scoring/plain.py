"""The protocols as plain loops and sorts over scores that are all in memory, without a line of the package."""

import numpy as np


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def people(seed, count=9, spread=0.9):
    """Return whose images are whose, and what two models make of them."""
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(count), rng.integers(2, 6, count)))
    gallery = rng.standard_normal((count, 8))[owners] + spread * rng.standard_normal((len(owners), 8))
    return owners, gallery, gallery + 0.3 * rng.standard_normal(gallery.shape)


def every_pair(owners, *models):
    """Return both rows of every pair, and the scores of each model."""
    first, second = np.triu_indices(len(owners), 1)
    return first, second, [(unit(one) @ unit(one).T)[first, second] for one in models]


def crosswise(owners, gallery, probe):
    """Return both rows of every pair in both orders, and the scores of one model's images against the other's."""
    first, second = np.nonzero(~np.eye(len(owners), dtype=bool))
    return first, second, (unit(gallery) @ unit(probe).T)[first, second]


def repeated(owners, first, second, counts):
    """Return the places of all pairs, as often as their people are drawn."""
    one, two = owners[first], owners[second]
    times = np.where(one == two, counts[one], counts[one] * counts[two]).astype(int)
    return np.repeat(np.arange(len(first)), times)


def tar_at_far(genuine, impostor, fars):
    """Return the share of genuine scores that reach the k-th largest impostor, k = floor(FAR x impostors) >= 1."""
    ordered = np.sort(impostor)[::-1]
    ranks = [max(1, int(np.floor(far * len(ordered) + 1e-9))) for far in fars]
    return [(genuine >= ordered[rank - 1]).mean() for rank in ranks]


def fold_accuracy(distances, same, folds):
    """Return the mean over folds of equal size, each judged by the first best threshold 0, 0.01 .. 4 of the others."""
    fold, rates = np.arange(len(same)) // (len(same) // folds), []
    for one in range(folds):
        right = [((distances < border) == same) for border in np.arange(401) / 100]
        best = int(np.argmax([each[fold != one].sum() for each in right]))
        rates.append(right[best][fold == one].mean())
    return np.mean(rates)
