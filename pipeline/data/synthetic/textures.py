"""Textures with the spectrum of natural images: random phases, amplitude falling as 1 / f.

The second-order statistics of photographs, without photographs ("Learning Video Representations
without Natural Videos", arXiv 2410.24213, builds its later stages on such textures).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Spectrum = NDArray[np.complex128]  # N x (N/2+1): the half that `numpy.fft.irfft2` takes


def spectrum(phases: NDArray[np.float64], exponent: float) -> Spectrum:
    """Return the spectrum of a texture of N x N pixels, unit variance and zero mean.

    Args:
        phases: N x (N/2+1), in [0, 1); N is even.
        exponent: of the amplitude's fall with frequency; 1 is natural, 0 white noise.
    """
    n = phases.shape[0]
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :])
    frequency[0, 0] = np.inf  # no mean
    amplitude = frequency**-exponent
    amplitude[n // 2, :] = amplitude[:, n // 2] = 0  # these cannot be shifted by half a pixel
    weight = np.full_like(amplitude, 2.0)  # every frequency stands for its mirror image as well,
    weight[:, 0] = 1.0  # but for the first column, which holds both
    amplitude *= n * n / np.sqrt(np.sum(weight * amplitude**2))
    phases = phases.copy()
    phases[n // 2 + 1 :, 0] = -phases[n // 2 - 1 : 0 : -1, 0]
    half: Spectrum = amplitude * np.exp(2j * np.pi * phases)
    return half


def panned(half: Spectrum, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return T pictures (T, N, N) of a texture moved by x, y pixels (each T), without loss.

    What leaves at one side comes in at the other.
    """
    n = half.shape[0]
    vertical = np.exp(-2j * np.pi * np.fft.fftfreq(n)[None, :] * y[:, None])
    horizontal = np.exp(-2j * np.pi * np.fft.rfftfreq(n)[None, :] * x[:, None])
    return np.fft.irfft2(half * vertical[:, :, None] * horizontal[:, None, :], s=(n, n))
