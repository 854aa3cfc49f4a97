"""The optimal network for data from a mixture of two gaussians, in closed form on any path, and the exact flow of its ODE."""

import math

import torch

from model_core.sampling.points import DATA, Point
from model_core.sampling.steps import Estimate

MEANS, STDS, WEIGHTS = (-1.5, 1.0), (0.4, 0.6), (0.35, 0.65)
MEAN = sum(w * m for w, m in zip(WEIGHTS, MEANS, strict=True))
VARIANCE = sum(w * (m**2 + s**2) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)) - MEAN**2


def estimate(x_t, point):
    """E[x_0 | x_t] and E[noise | x_t]: each component's posterior means, weighted by the component's posterior."""
    parts = []
    for mean, std, weight in zip(MEANS, STDS, WEIGHTS, strict=True):
        variance = point.signal**2 * std**2 + point.sigma**2
        centred = x_t - point.signal * mean
        log_weight = math.log(weight) - 0.5 * math.log(variance) - centred.square() / (2 * variance)
        parts.append((log_weight, mean + point.signal * std**2 / variance * centred, point.sigma / variance * centred))
    share = torch.stack([part[0] for part in parts]).softmax(dim=0)
    x_0 = (share * torch.stack([part[1] for part in parts])).sum(dim=0)
    noise = (share * torch.stack([part[2] for part in parts])).sum(dim=0)
    return Estimate(x_0=x_0, noise=noise)


def flow_point(t):
    return Point(timestep=1000 * t, signal=1 - t, sigma=t)


def cosine_point(t):
    return Point(timestep=1000 * t, signal=math.cos(math.pi / 2 * t), sigma=math.sin(math.pi / 2 * t))


def velocity(x_t, timestep):
    """The velocity on rectified flow's path, as a network would give it."""
    found = estimate(x_t, flow_point(float(timestep[0]) / 1000))
    return found.noise - found.x_0


def points_of(path, num_steps):
    """Evenly in time from 1 to 0."""
    return (*(path(1 - step / num_steps) for step in range(num_steps)), DATA)


def even_points(num_steps, *, first, last):
    """Points of rectified flow's path from one time to another, evenly in lambda, in which multistep solvers think."""
    low, high = (math.log((1 - t) / t) for t in (first, last))
    return tuple(flow_point(1 / (1 + math.exp(low + (high - low) * step / num_steps))) for step in range(num_steps + 1))


def exact(path, x_t, *, first=1.0, last=0.0, num_steps=500):
    """The ODE ``dx/dt = signal' x_0 + sigma' noise`` followed from one time to another by the classical Runge-Kutta method."""
    eps = 1e-6

    def slope(x, t):
        found = estimate(x, path(t))
        low, high = max(0.0, t - eps), min(1.0, t + eps)
        below, above = path(low), path(high)
        return ((above.signal - below.signal) * found.x_0 + (above.sigma - below.sigma) * found.noise) / (high - low)

    dt = (last - first) / num_steps
    for step in range(num_steps):
        t = first + step * dt
        k1 = slope(x_t, t)
        k2 = slope(x_t + dt / 2 * k1, t + dt / 2)
        k3 = slope(x_t + dt / 2 * k2, t + dt / 2)
        k4 = slope(x_t + dt * k3, max(0.0, t + dt))
        x_t = x_t + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x_t


def order_of(errors_by_steps):
    """The slope of log error over log step size, by least squares."""
    x = torch.tensor([-math.log(n) for n in errors_by_steps], dtype=torch.float64)
    y = torch.tensor([math.log(e) for e in errors_by_steps.values()], dtype=torch.float64)
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
